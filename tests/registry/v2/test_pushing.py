"""Pushes that are refused: bad requests, immutable tags, quotas, read only; and many at once."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest

from storage.digest import Digest
from storage.quotas.limits import Limits, Quota
from storage.quotas.patterns import Immutable
from tests.support.registry.pushes import ABSENT, DATA, DIGEST, MANIFEST, Pusher
from tests.support.registry.serving import NUMPY, ROOT, Site, serving

SESSION = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
REFUSED = [
    ("POST", "/v2/a/blobs/uploads/?digest=sha256:abc", b"x", {}, 400, "DIGEST_INVALID"),
    ("POST", f"/v2/a/blobs/uploads/?digest={ABSENT}", b"x", {}, 400, "DIGEST_INVALID"),
    ("POST", "/v2/A/blobs/uploads/", b"", {}, 400, "NAME_INVALID"),
    ("PATCH", f"/v2/a/blobs/uploads/{SESSION}", b"x", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("PATCH", "/v2/a/blobs/uploads/..%2f..%2fcondery.sqlite", b"x", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("PUT", f"/v2/a/blobs/uploads/{SESSION}?digest={ABSENT}", b"", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("GET", f"/v2/a/blobs/uploads/{SESSION}", b"", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("DELETE", f"/v2/a/blobs/uploads/{SESSION}", b"", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("DELETE", f"/v2/a/blobs/{ABSENT}", b"", {}, 404, "BLOB_UNKNOWN"),
    ("DELETE", "/v2/a/blobs/sha256:abc", b"", {}, 404, "DIGEST_INVALID"),
    ("DELETE", f"/v2/a/manifests/{ABSENT}", b"", {}, 404, "MANIFEST_UNKNOWN"),
    ("DELETE", "/v2/a/manifests/latest", b"", {}, 404, "MANIFEST_UNKNOWN"),
    ("PUT", "/v2/a/manifests/latest", b"", {"Content-Type": MANIFEST}, 400, "MANIFEST_INVALID"),
    ("PUT", "/v2/a/manifests/latest", b"{}", {"Content-Type": MANIFEST}, 400, "MANIFEST_INVALID"),
    ("PUT", "/v2/a/manifests/-bad", b"{}", {"Content-Type": MANIFEST}, 400, "TAG_INVALID"),
    ("PUT", "/v2/a/manifests/sha256:bad", b"{}", {"Content-Type": MANIFEST}, 400, "DIGEST_INVALID"),
    ("PUT", "/v2/a/manifests/latest%0a", b"{}", {"Content-Type": MANIFEST}, 400, "TAG_INVALID"),
    (
        "PUT",
        "/v2/a/manifests/latest",
        io.BytesIO(bytes((4 << 20) + 1)),
        {"Content-Type": MANIFEST},
        413,
        "SIZE_INVALID",
    ),
    ("GET", "/v2/a/tags/list", b"", {}, 404, "NAME_UNKNOWN"),
    ("GET", "/v2/a/manifests/latest", b"", {}, 404, "NAME_UNKNOWN"),
    ("GET", "/v2/a/referrers/sha256:abc", b"", {}, 400, "DIGEST_INVALID"),
    ("PATCH", "/v2/a/blobs/uploads/", b"", {}, 405, "UNSUPPORTED"),
    ("POST", f"/v2/a/blobs/{ABSENT}", b"", {}, 405, "UNSUPPORTED"),
    ("POST", f"/v2/{ROOT}/blobs/uploads/", b"", {}, 403, "DENIED"),
    *(
        ("GET", f"/v2/a/tags/list?n={n}", b"", {}, 400, "PAGINATION_NUMBER_INVALID")
        for n in ("-1", "1_0", "10000000000", "%D9%A3", "", "1e3", "+1", "0x1")
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status", "code"), REFUSED)
async def test_refused_requests(
    site: Site, method: str, path: str, body: bytes | io.BytesIO, headers: dict[str, str], status: int, code: str
) -> None:
    async with site.request(method, path, data=body, headers=headers) as answer:
        document = json.loads(await answer.read())
    assert (answer.status, document["errors"][0]["code"]) == (status, code)
    assert document["errors"][0]["message"]


async def test_immutable_tags(tmp_path: Path) -> None:
    limits = Limits(immutable=(Immutable.parse("prod/*:v*"),))
    async with serving(tmp_path, limits=limits) as site:
        push = Pusher(site)
        first, second = await push.image("prod/a", b"1"), await push.image("prod/a", b"2")
        digest = Digest.of(first)
        for _ in range(2):
            assert (await push.manifest("prod/a", "v1", first)).status == 201
        for answer in (
            await push.manifest("prod/a", "v1", second),
            await push.manifest("prod/a", f"{Digest.of(second)}?tag=x&tag=v1", second),
            await push.request("DELETE", "/v2/prod/a/manifests/v1"),
            await push.request("DELETE", f"/v2/prod/a/manifests/{digest}"),
        ):
            assert (answer.status, answer.code) == (403, "DENIED")
        assert (await push.get_manifest("prod/a", "v1")).body == first
        assert await push.tags("prod/a") == ["v1"]
        assert (await push.manifest("prod/a", "latest", second)).status == 201
        assert (await push.request("DELETE", "/v2/prod/a/manifests/latest")).status == 202


async def test_quotas(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=Limits(quotas=(Quota.parse("team/* bytes=300KB tags=2"),))) as site:
        push = Pusher(site)
        body = await push.image("team/a", DATA[:290_000])
        for tag in ("one", "two", "one"):
            assert (await push.manifest("team/a", tag, body)).status == 201
        answer = await push.manifest("team/a", "three", body)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert "2 tags" in answer.message
        for answer in (
            await push.whole("team/b", DATA, DIGEST),
            await push.finish(await push.open("team/b"), DIGEST, DATA),
        ):
            assert (answer.status, answer.code) == (403, "DENIED")
        # what the team has already costs nothing again, and others are not counted
        assert (await push.whole("team/b", DATA[:290_000], Digest.of(DATA[:290_000]))).status == 201
        assert (await push.whole("other", DATA, DIGEST)).status == 201
        assert (await push.request("POST", f"/v2/team/b/blobs/uploads/?mount={DIGEST}&from=other")).status == 403


async def test_read_only(tmp_path: Path) -> None:
    async with serving(tmp_path, read_only=True) as site:
        push = Pusher(site)
        await site.workshop.put_blob(DATA, "a")
        assert await push.read("a", DIGEST) == DATA
        for method, path in (
            ("POST", "/v2/a/blobs/uploads/"),
            ("PUT", "/v2/a/manifests/latest"),
            ("DELETE", f"/v2/a/blobs/{DIGEST}"),
        ):
            assert (await push.request(method, path)).code == "DENIED"


async def test_push_is_refused_before_its_body_is_sent(site: Site) -> None:
    """A client that asks first (RFC 9110, 10.1.1) and is refused keeps its gigabytes."""
    reader, writer = await asyncio.open_connection(*site.host_port)
    head = f"PUT /v2/{NUMPY}/manifests/latest HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nConnection: close\r\n"
    writer.write(f"{head}\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
    writer.close()


async def test_concurrent_pushes_of_one_image(push: Pusher, site: Site) -> None:
    async def one(number: int) -> None:
        body = await push.image(f"r{number % 3}", DATA)
        assert (await push.manifest(f"r{number % 3}", "latest", body)).status == 201

    await asyncio.gather(*(one(number) for number in range(24)))
    for number in range(3):
        assert await push.read(f"r{number}", DIGEST) == DATA
