"""Content that somebody pushes who means harm: documents that are read in two ways, bodies that grow, scripts."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from storage.digest import Digest
from tests.support.registry.pushes import ABSENT, INDEX, MANIFEST, Pusher, image_manifest
from tests.support.registry.serving import Site
from tests.support.registry.wire import exchange

DATA = random.Random(7).randbytes(100_000)
DIGEST = Digest.of(DATA)
SCRIPT = "<script>alert(1)</script>"
MIB = 1 << 20


# manifests


def padded(size: int) -> bytes:
    """A manifest of exactly so many bytes."""
    empty = image_manifest(b"{}", [DATA], annotations={"padding": ""})
    return image_manifest(b"{}", [DATA], annotations={"padding": "x" * (size - len(empty))})


async def in_chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def test_the_largest_manifest(push: Pusher) -> None:
    await push.image("a", DATA)
    for size, status in ((4 * MIB - 1, 201), (4 * MIB, 201), (4 * MIB + 1, 413)):
        body = padded(size)
        assert len(body) == size
        for data in (body, in_chunks(body)):
            answer = await push.request("PUT", "/v2/a/manifests/big", data=data, headers={"Content-Type": MANIFEST})
            assert (size, answer.status) == (size, status)
        if status == 201:
            assert (await push.get_manifest("a", "big")).body == body
        else:
            assert answer.code == "SIZE_INVALID"
            assert (await push.get_manifest("a", Digest.of(body))).status == 404


def replaced(old: str, new: str) -> bytes:
    body = image_manifest(b"{}", [DATA], annotations={"key": "value"}).decode()
    assert body.count(old) == 1
    return body.replace(old, new).encode()


UNCLEAR = {
    "a key twice": replaced('"layers":', '"layers": [], "layers":'),
    "a key twice, escaped once": replaced('"layers":', r'"l\u0061yers": [], "layers":'),
    "a key twice in a descriptor": replaced('"size": 100000', '"size": 1, "size": 100000'),
    "keys that differ in case": replaced('"layers":', '"Layers": [], "layers":'),
    "both kinds": replaced('"layers":', '"manifests": [], "layers":'),
    "200,000 brackets": replaced('"value"', "[" * 200_000 + "]" * 200_000),
    "200,000 brackets, unclosed": b"[" * 200_000,
    "200,000 objects": replaced('"value"', '{"a":' * 200_000 + "1" + "}" * 200_000),
    "5,000 digits": replaced("100000", "1" * 5000),
    "5,000 digits in annotations": replaced('"value"', "1" * 5000),
    "a negative size": replaced("100000", "-100000"),
    "a fractional size": replaced("100000", "100000.0"),
    "an exponent": replaced("100000", "1e5"),
    "too large a number": replaced("100000", "1e999"),
    "2^63": replaced("100000", str(2**63)),
    "NaN": replaced("100000", "NaN"),
    "Infinity": replaced("100000", "-Infinity"),
    "true": replaced("100000", "true"),
    "half a surrogate pair": replaced('"value"', r'"\ud800"'),
    "half a surrogate pair as a key": replaced('"key"', r'"\udc00"'),
    "surrogates as bytes": replaced('"value"', '"?"').replace(b"?", b"\xed\xa0\x80"),
    "not UTF-8": replaced('"value"', '"?"').replace(b"?", b"\xff"),
    "UTF-16": replaced('"value"', '"?"').decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + replaced('"value"', '"?"'),
    "a NUL behind it": replaced('"value"', '"?"') + b"\0",
    "a second document behind it": replaced('"value"', '"?"') + b"{}",
    "a control character": replaced('"value"', '"?"').replace(b"?", b"\x01"),
    "a comment": replaced('"value"', '"?" /* a */'),
    "a comma too many": replaced('"value"', '"?",'),
    "a list": b"[]",
    "text": b'"manifest"',
    "null": b"null",
    "another schema version": replaced('"schemaVersion": 2', '"schemaVersion": 1'),
    "no schema version": replaced('"schemaVersion": 2, ', ""),
    "another media type": replaced(f'"mediaType": "{MANIFEST}"', f'"mediaType": "{INDEX}"'),
    "compressed": gzip.compress(replaced('"value"', '"?"')),
}


async def test_unclear_manifests_are_refused(push: Pusher) -> None:
    await push.image("a", DATA)
    for what, body in UNCLEAR.items():
        for reference in ("latest", Digest.of(body)):
            answer = await push.manifest("a", reference, body)
            assert (what, answer.status, answer.code) == (what, 400, "MANIFEST_INVALID")
            assert len(answer.message) < 1000
            assert (await push.get_manifest("a", reference)).status == 404
    assert (await push.manifest("a", "latest", replaced('"value"', '"a value"'))).status == 201


async def test_cve_2021_41190_a_document_of_both_kinds_is_refused(push: Pusher) -> None:
    """OCI: one client took a document for a manifest, another one for an index."""
    await push.image("a", DATA)
    for fields in ({"manifests": list[object]()}, {"manifests": None}):
        for media_type in (MANIFEST, INDEX):
            document = json.loads(image_manifest(b"{}", [DATA])) | fields | {"mediaType": media_type}
            answer = await push.manifest("a", "latest", json.dumps(document).encode(), media_type)
            assert (answer.status, answer.code) == (400, "MANIFEST_INVALID"), (fields, media_type)
    assert (await push.get_manifest("a", "latest")).status == 404


async def test_content_type_has_to_be_the_media_type(push: Pusher) -> None:
    body = await push.image("a", DATA)
    for media_type in (INDEX, "text/html", "application/json", "a", f"{MANIFEST}x", f"{MANIFEST}, text/html"):
        answer = await push.manifest("a", "latest", body, media_type)
        assert (media_type, answer.status, answer.code) == (media_type, 400, "MANIFEST_INVALID")
    assert (await push.manifest("a", "latest", body, f"{MANIFEST}; charset=utf-8")).status == 201
    assert (await push.get_manifest("a", "latest")).headers["Content-Type"] == MANIFEST


async def test_manifest_that_names_itself_or_a_circle(push: Pusher) -> None:
    """A digest cannot be in what it is the digest of, but indexes may name what comes later, and each other's tags."""
    entries: list[dict[str, Any]] = []
    for _ in range(50):
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
        assert (await push.manifest("a", "deep", body, INDEX)).status == 201
        entries = [{"mediaType": INDEX, "digest": Digest.of(body), "size": len(body)}] * 2
    assert (await push.get_manifest("a", "deep")).body == body
    assert (await push.request("DELETE", f"/v2/a/manifests/{Digest.of(body)}")).status == 202


async def test_bodies_that_unpack_to_more(push: Pusher, tmp_path: Path) -> None:
    """A Content-Encoding of a request changes nothing: content is stored as it came."""
    bomb = gzip.compress(bytes(50 * MIB))
    for repository, digest, status in (("a", Digest.of(bytes(50 * MIB)), 400), ("a", Digest.of(bomb), 201)):
        path = f"/v2/{repository}/blobs/uploads/?digest={digest}"
        for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "nonsense"):
            answer = await push.request("POST", path, data=bomb, headers={"Content-Encoding": encoding}, compress=None)
            assert (encoding, answer.status) == (encoding, status)
    assert await push.read("a", Digest.of(bomb)) == bomb
    files = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert [path.stat().st_size for path in files] == [len(bomb)]
    manifest = gzip.compress(bytes(5 * MIB))
    headers = {"Content-Type": MANIFEST, "Content-Encoding": "gzip"}
    answer = await push.request("PUT", "/v2/a/manifests/latest", data=manifest, headers=headers)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


# what comes back


async def test_script_is_never_more_than_text(push: Pusher) -> None:
    """Whatever is told of a request is JSON, which no browser takes for a page, and so is what was pushed."""
    written = SCRIPT.replace("<", "%3C").replace(">", "%3E")
    for method, path in (
        ("GET", f"/v2/a/manifests/{written}"),
        ("PUT", f"/v2/a/manifests/{written}"),
        ("GET", f"/v2/{written}/manifests/latest"),
        ("GET", f"/v2/a/blobs/{written}"),
        ("GET", f"/v2/a/tags/list?n={written}"),
        ("GET", f"/v2/a/referrers/{written}"),
        ("GET", f"/v2/{written}"),
        ("POST", f"/v2/a/blobs/uploads/?digest={written}"),
        ("GET", f"/{written}"),
        ("GET", f"/files/{written}"),
        ("GET", f"/files/a/{written}/{written}/{written}"),
    ):
        answer = await push.request(method, path, headers={"Accept": "text/html", "Content-Type": "text/html"})
        assert 400 <= answer.status < 500
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    subject = {"mediaType": MANIFEST, "digest": ABSENT, "size": 2}
    await push.image("a", SCRIPT.encode())
    body = image_manifest(b"{}", [SCRIPT.encode()], annotations={SCRIPT: SCRIPT}, subject=subject)
    assert (await push.manifest("a", "latest", body)).status == 201
    for path, media_type in (
        ("/v2/a/manifests/latest", MANIFEST),
        (f"/v2/a/manifests/{Digest.of(body)}", MANIFEST),
        (f"/v2/a/referrers/{ABSENT}", INDEX),
        ("/v2/a/tags/list", "application/json"),
        ("/v2/_catalog", "application/json"),
        (f"/v2/a/blobs/{Digest.of(SCRIPT.encode())}", "application/octet-stream"),
    ):
        answer = await push.request("GET", path, headers={"Accept": "text/html"})
        assert answer.status == 200
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_no_header_of_a_request_leads_elsewhere(site: Site) -> None:
    evil = (
        b"Host: evil.example\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nForwarded: host=evil\r\n"
    )
    for line in (b"POST /v2/a/blobs/uploads/ HTTP/1.1", b"POST http://evil.example/v2/a/blobs/uploads/ HTTP/1.1"):
        answer = await exchange(site.host_port, line + b"\r\n" + evil + b"Content-Length: 0\r\n\r\n")
        assert answer.status == 202
        assert answer.headers["Location"].startswith("/v2/a/blobs/uploads/")
    for path in (b"//evil.example/v2/", b"//evil.example/%2e%2e", b"/\\evil.example", b"/v2//evil.example/manifests/a"):
        answer = await exchange(site.host_port, b"GET " + path + b" HTTP/1.1\r\n" + evil + b"\r\n")
        assert answer.status in (400, 404)
        assert "Location" not in answer.headers


async def test_many_ranges_are_not_sent_many_times(push: Pusher) -> None:
    await push.whole("a", DATA, DIGEST)
    for ranges in ("0-," * 1000 + "0-", ",".join(f"{first}-" for first in range(1000)), "0-0," * 1000 + "-1"):
        answer = await push.request("GET", f"/v2/a/blobs/{DIGEST}", headers={"Range": f"bytes={ranges}"})
        assert (answer.status, answer.body) == (200, DATA)
