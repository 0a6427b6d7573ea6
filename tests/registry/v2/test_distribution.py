"""The read half of the distribution API: a table of requests and their answers, then what the table cannot say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from builder.errors import BuildFailed
from registry.http.settings import HttpSettings
from storage.digest import Digest
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.support.registry.pushes import ABSENT
from tests.support.registry.serving import NUMPY, ROOT, Site, serving

QUICK = HttpSettings(answer_within=0.2, trickle_interval=0.02, trickle_slowest=0.05, trickle_cover=0.5)
V2 = f"/v2/{NUMPY}"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, QUICK) as running:
        yield running


REQUESTS = [
    ("GET", "/v2/", 200, None),
    ("HEAD", "/v2/", 200, None),
    ("GET", "/v2", 200, None),
    ("POST", "/v2/", 405, "UNSUPPORTED"),
    ("GET", "/v2/x", 404, "NOT_FOUND"),
    ("GET", "/v2x/", 404, "NOT_FOUND"),
    ("GET", "/v2/_catalog", 200, None),
    ("POST", "/v2/_catalog", 405, "UNSUPPORTED"),
    ("GET", "/v2/_catalog/", 404, "NOT_FOUND"),
    ("GET", f"{V2}/manifests/latest", 200, None),
    ("HEAD", f"{V2}/manifests/latest", 200, None),
    ("PUT", f"{V2}/manifests/latest", 403, "DENIED"),
    ("DELETE", f"{V2}/manifests/latest", 403, "DENIED"),
    ("PATCH", f"{V2}/manifests/latest", 405, "UNSUPPORTED"),
    ("GET", f"{V2}/manifests/other", 404, "MANIFEST_UNKNOWN"),
    ("GET", f"{V2}/manifests/-bad", 404, "MANIFEST_UNKNOWN"),
    ("GET", f"{V2}/manifests/latest%0a", 404, "MANIFEST_UNKNOWN"),
    ("GET", f"{V2}/manifests/..%2f..%2fetc%2fpasswd", 404, "MANIFEST_UNKNOWN"),
    ("GET", f"{V2}/manifests/" + "a" * 129, 404, "MANIFEST_UNKNOWN"),
    ("GET", f"{V2}/manifests/{ABSENT}", 404, "MANIFEST_UNKNOWN"),
    ("GET", f"{V2}/manifests/sha256:abc", 404, "DIGEST_INVALID"),
    ("HEAD", f"{V2}/manifests/sha256:abc", 404, None),
    ("GET", f"{V2}/manifests/sha256:{'A' * 64}", 404, "DIGEST_INVALID"),
    ("GET", f"{V2}/manifests/md5:{'0' * 32}", 404, "DIGEST_INVALID"),
    ("GET", "/v2/else/where/manifests/latest", 404, "NAME_UNKNOWN"),
    ("GET", "/v2/Upper/manifests/latest", 400, "NAME_INVALID"),
    ("GET", "/v2/a//b/manifests/latest", 400, "NAME_INVALID"),
    ("GET", "/v2//manifests/latest", 400, "NAME_INVALID"),
    ("GET", "/v2/a%2fb/manifests/latest", 400, "NAME_INVALID"),
    ("GET", "/v2/%2e%2e%2f/manifests/latest", 400, "NAME_INVALID"),
    ("GET", "/v2/a%00/manifests/latest", 400, "NAME_INVALID"),
    ("GET", "/v2/a%0a/manifests/latest", 400, "NAME_INVALID"),
    ("GET", "/v2/a../manifests/latest", 400, "NAME_INVALID"),
    ("GET", "/v2/a___b/manifests/latest", 400, "NAME_INVALID"),
    ("GET", "/v2/" + "a" * 256 + "/manifests/latest", 400, "NAME_INVALID"),
    ("GET", "/v2/" + "a-" * 127 + "/manifests/latest", 400, "NAME_INVALID"),
    ("GET", f"{V2}/blobs/{ABSENT}", 404, "BLOB_UNKNOWN"),
    ("HEAD", f"{V2}/blobs/{ABSENT}", 404, None),
    ("GET", f"{V2}/blobs/sha256:xyz", 404, "DIGEST_INVALID"),
    ("GET", f"{V2}/blobs/sha512:{'0' * 128}", 404, "BLOB_UNKNOWN"),
    ("GET", f"{V2}/blobs/%2e%2e%2f%2e%2e%2fcondery.sqlite", 404, "DIGEST_INVALID"),
    ("POST", f"{V2}/blobs/uploads/", 403, "DENIED"),
    ("POST", f"{V2}/blobs/uploads", 403, "DENIED"),
    ("GET", f"{V2}/blobs/uploads/", 405, "UNSUPPORTED"),
    ("PUT", f"{V2}/blobs/uploads/8be4df61-93ca-11d2-aa0d-00e098032b8c", 403, "DENIED"),
    ("GET", f"{V2}/blobs/uploads/8be4df61-93ca-11d2-aa0d-00e098032b8c", 403, "DENIED"),
    ("HEAD", f"{V2}/blobs/uploads/8be4df61-93ca-11d2-aa0d-00e098032b8c", 405, "UNSUPPORTED"),
    ("DELETE", f"{V2}/blobs/{ABSENT}", 403, "DENIED"),
    ("GET", f"{V2}/tags/list", 200, None),
    ("GET", f"{V2}/tags/list?n=0", 200, None),
    ("GET", f"{V2}/tags/list?n=1000000000", 400, "PAGINATION_NUMBER_INVALID"),
    ("GET", f"{V2}/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
    ("GET", f"{V2}/tags/list?n=1_0", 400, "PAGINATION_NUMBER_INVALID"),
    ("GET", f"{V2}/tags/list?n=%2B1", 400, "PAGINATION_NUMBER_INVALID"),
    ("GET", f"{V2}/tags/list?n=%201", 400, "PAGINATION_NUMBER_INVALID"),
    ("GET", f"{V2}/tags/list?n=%D9%A1", 400, "PAGINATION_NUMBER_INVALID"),
    ("GET", f"{V2}/tags/list?n=", 400, "PAGINATION_NUMBER_INVALID"),
    ("GET", f"{V2}/tags/list?n=" + "1" * 5000, 400, "PAGINATION_NUMBER_INVALID"),
    ("GET", "/v2/else/tags/list", 404, "NAME_UNKNOWN"),
    ("GET", f"{V2}/referrers/{ABSENT}", 200, None),
    ("GET", f"{V2}/referrers/nonsense", 400, "DIGEST_INVALID"),
    # repositories that are called like parts of the API
    ("GET", f"/v2/{ROOT}/blobs/uploads/manifests/other", 404, "MANIFEST_UNKNOWN"),
    ("GET", f"/v2/{ROOT}/x/tags/list/manifests/other", 404, "MANIFEST_UNKNOWN"),
    ("GET", f"/v2/{ROOT}/manifests/manifests/other", 404, "MANIFEST_UNKNOWN"),
    ("GET", f"/v2/{ROOT}/x/tags/list/tags/list", 200, None),
    ("GET", f"/v2/a/blobs/uploads/blobs/{ABSENT}", 404, "BLOB_UNKNOWN"),
    ("POST", "/v2/a/manifests/blobs/uploads/", 202, None),
    ("GET", f"/v2/{ROOT}/crash/manifests/latest", 500, "UNKNOWN"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), REQUESTS, ids=lambda value: str(value)[:60])
async def test_request_is_answered(site: Site, method: str, path: str, status: int, code: str | None) -> None:
    await site.workshop.put(NUMPY)
    async with site.request(method, path, headers={"X-Request-ID": "mine-1"}) as answer:
        body = await answer.read()
    assert answer.status == status
    assert answer.headers["X-Request-ID"] == "mine-1"
    assert answer.headers["Server"] == "condery"
    if method == "HEAD":
        assert body == b""
    elif code is not None:
        assert answer.headers["Content-Type"] == "application/json"
        document = json.loads(body)
        if path.startswith("/v2/"):
            (error,) = document["errors"]
            assert set(error) == {"code", "message", "detail"}
        else:
            error = document
        assert error["code"] == code
        assert error["message"]
        assert "secret" not in error["message"]
    if status == 405:
        assert method not in answer.headers["Allow"].split(", ")


async def test_nothing_made_on_demand_can_be_written_or_deleted(site: Site) -> None:
    paths = (
        "/v2/",
        f"{V2}/manifests/latest",
        f"{V2}/blobs/{ABSENT}",
        f"{V2}/blobs/uploads/",
        f"{V2}/tags/list",
        "/files/a/b/c",
    )
    for path in paths:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            async with site.request(method, path) as answer:
                assert (method, path, answer.status in (403, 405)) == (method, path, True)


async def test_manifest_has_the_headers_clients_look_at(site: Site) -> None:
    image = await site.workshop.put(NUMPY)
    index = image.variants[0]
    for method in ("GET", "HEAD"):
        for reference in ("latest", index.digest, index.digest.replace(":", "%3A")):
            async with site.request(method, f"{V2}/manifests/{reference}") as answer:
                body = await answer.read()
            assert answer.headers["Content-Type"] == OCI_INDEX
            assert answer.headers["Docker-Content-Digest"] == index.digest
            assert answer.headers["ETag"] == f'"{index.digest}"'
            assert answer.headers["Content-Length"] == str(index.size)
            assert method == "HEAD" or Digest.of(body) == index.digest


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ([], OCI_INDEX),
        (["*/*"], OCI_INDEX),
        ([DOCKER_MANIFEST], DOCKER_MANIFEST),
        ([DOCKER_MANIFEST, OCI_MANIFEST], OCI_MANIFEST),
        ([f"{DOCKER_MANIFEST}, {OCI_INDEX};q=0.1"], OCI_INDEX),
        ([f"{OCI_INDEX};q=0, */*"], OCI_MANIFEST),
        (["application/*"], OCI_INDEX),
        ([f"{OCI_MANIFEST.upper()}"], OCI_MANIFEST),
        (["text/html"], OCI_INDEX),
        (["application/vnd.docker.distribution.manifest.v1+prettyjws"], OCI_INDEX),
        ([f"{OCI_MANIFEST};q=rubbish, {DOCKER_MANIFEST}"], DOCKER_MANIFEST),
    ],
)
async def test_first_accepted_variant_is_sent(site: Site, accept: list[str], media_type: str) -> None:
    await site.workshop.put(NUMPY)
    for _ in ("from the catalog", "from memory"):
        headers = [("Accept", each) for each in accept]
        async with site.client.get(
            site.url + f"{V2}/manifests/latest", headers=headers, skip_auto_headers=["Accept"]
        ) as answer:
            assert answer.headers["Content-Type"] == media_type


async def test_known_manifest_is_not_sent_again(site: Site) -> None:
    image = await site.workshop.put(NUMPY)
    etag = f'"{image.variants[0].digest}"'
    for known, status in ((etag, 304), (f'"other", W/{etag}', 304), ("*", 304), ('"other"', 200)):
        async with site.request("GET", f"{V2}/manifests/latest", headers={"If-None-Match": known}) as answer:
            assert (known, answer.status) == (known, status)
            assert answer.headers["ETag"] == etag
            assert (await answer.read() == b"") == (status == 304)


async def test_tag_is_answered_from_memory_until_it_expires(tmp_path: Path) -> None:
    async with serving(tmp_path, HttpSettings(tag_memory_seconds=0.15)) as site:
        await site.workshop.put(NUMPY)
        for _ in range(5):
            async with site.request("GET", f"{V2}/manifests/latest"):
                pass
        assert site.workshop.asked == 1
        await asyncio.sleep(0.2)
        async with site.request("GET", f"{V2}/manifests/latest"):
            pass
        assert site.workshop.asked == 2


async def test_digest_never_asks_the_builder(site: Site) -> None:
    image = await site.workshop.put(NUMPY)
    for variant in image.variants:
        async with site.request("GET", f"{V2}/manifests/{variant.digest}") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == variant.media_type
    assert site.workshop.asked == 0


async def test_warnings_are_headers_that_hold_no_control_characters(site: Site) -> None:
    site.workshop.warnings = ('post-link of "qt"\r\nSet-Cookie: a=b skipped \N{SNOWMAN}', "second")
    await site.workshop.put(NUMPY)
    async with site.request("GET", f"{V2}/manifests/latest") as answer:
        assert answer.headers.getall("Warning") == [
            r'299 - "post-link of \"qt\"??Set-Cookie: a=b skipped ?"',
            '299 - "second"',
        ]
        assert "Set-Cookie" not in answer.headers


async def test_build_failure_is_a_404_that_a_person_can_act_on(site: Site) -> None:
    asking = asyncio.ensure_future(_text(site, f"{V2}/manifests/latest"))
    build = await site.started(NUMPY)
    build.ended.set_exception(
        BuildFailed("b1", "UnknownPackage", "no package nunpy in conda-forge; did you mean numpy?")
    )
    status, text = await asking
    assert status == 404
    assert json.loads(text)["errors"][0] == {
        "code": "MANIFEST_UNKNOWN",
        "message": "no package nunpy in conda-forge; did you mean numpy? (build b1)",
        "detail": None,
    }


async def _text(site: Site, path: str) -> tuple[int, str]:
    async with site.request("GET", path) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("query", "shown", "link"),
    [
        ("", ["2026-01-31", "latest", "lock-0123456789ab"], None),
        ("?n=0", [], None),
        ("?n=2", ["2026-01-31", "latest"], "?n=2&last=latest"),
        ("?n=2&last=latest", ["lock-0123456789ab"], None),
        ("?n=3", ["2026-01-31", "latest", "lock-0123456789ab"], None),
        ("?last=latest", ["lock-0123456789ab"], None),
        ("?last=b", ["latest", "lock-0123456789ab"], None),
        ("?n=1&last=zz", [], None),
    ],
)
async def test_tags_are_paged(site: Site, query: str, shown: list[str], link: str | None) -> None:
    async with site.request("GET", f"{V2}/tags/list{query}") as answer:
        assert await answer.json() == {"name": NUMPY, "tags": shown}
        assert answer.headers.get("Link") == (f'<{V2}/tags/list{link}>; rel="next"' if link else None)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("n=abc", "n='abc': "),
        ("n=-1", "n='-1': "),
        ("n=1000000000", "n='1000000000': "),
        ("n=1_0", "n='1_0': "),
        ("n=%D9%A1", "n='\u0661': "),
        ("last=%00", "last='\\x00': "),
    ],
)
async def test_a_wrong_page_is_quoted_once(site: Site, query: str, told: str) -> None:
    status, text = await _text(site, f"{V2}/tags/list?{query}")
    assert status == 400
    assert json.loads(text)["errors"][0]["message"].startswith(f"query parameter {told}")


async def test_request_id_is_made_when_none_fit_is_given(site: Site) -> None:
    seen = set()
    odd = ["with space", "x" * 129, "me:secret@host", 'a"b', "a\tb", "<b>", "a,b", "$(id)", "%0a"]
    for given in (None, *odd):
        async with site.request("GET", "/v2/", headers={"X-Request-ID": given} if given else {}) as answer:
            assert answer.headers["X-Request-ID"] != given
            seen.add(answer.headers["X-Request-ID"])
    assert len(seen) == 1 + len(odd)


async def test_every_request_has_one_line(site: Site, tmp_path: Path) -> None:
    await site.workshop.put(NUMPY)
    async with site.request("GET", f"{V2}/manifests/latest", headers={"X-Request-ID": "r1"}) as answer:
        size = len(await answer.read())
    async with site.request("GET", f"{V2}/manifests/other", headers={"X-Request-ID": "r2"}):
        pass
    async with site.request("GET", "/v2/x?token=abc", headers={"Authorization": "Bearer abc"}):
        pass
    await asyncio.sleep(0.15)
    first, second, third = map(json.loads, site.log.getvalue().splitlines())
    assert first.items() >= {
        "event": "request", "method": "GET", "path": f"{V2}/manifests/latest", "status": 200, "bytes": size,
        "principal": "anonymous", "request": "r1", "level": "info",
    }.items()  # fmt: skip
    assert (second["status"], second["error"], second["request"]) == (404, "InvalidImageName", "r2")
    assert "abc" not in json.dumps(third)


async def test_malformed_http_does_not_reach_a_handler(site: Site) -> None:
    for request in (b"GET /v2/ HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n", b"\x16\x03\x01 nonsense\r\n\r\n"):
        reader, writer = await asyncio.open_connection(*site.host_port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert b" 400 " in answer.splitlines()[0]
        assert b"Traceback" not in answer


async def test_absolute_and_odd_targets(site: Site) -> None:
    """Forms of request targets that a client library would never send."""
    await site.workshop.put(NUMPY)
    for target, status in (
        (f"http://elsewhere{V2}/manifests/latest", b"200"),
        (f"/{V2}/manifests/latest", b"404"),
        (f"/v2/../v2/{NUMPY}/manifests/latest", b"400"),
        (f"/x/..{V2}/manifests/latest", b"404"),
        (f"{V2}/manifests/latest#x", b"200"),
        ("*", b"400"),
    ):
        reader, writer = await asyncio.open_connection(*site.host_port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert (target, answer.split(b" ", 2)[1]) == (target, status)
