"""Pushing blobs: uploads, mounts and deletions, as clients do them and as they should not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

import pytest

from auth.permission import Permission
from auth.principal import Principal
from storage.digest import Digest
from storage.repositories.places import EVERYWHERE, Places
from tests.support.registry.pushes import ABSENT, DATA, DIGEST, Pusher, sha512
from tests.support.registry.serving import NUMPY, Site, serving


async def test_blob_in_one_request(push: Pusher) -> None:
    for digest in (DIGEST, sha512(DATA)):
        answer = await push.whole("team/a", DATA, digest)
        assert answer.status == 201
        assert answer.headers["Location"] == f"/v2/team/a/blobs/{digest}"
        assert answer.headers["Docker-Content-Digest"] == digest
        assert await push.read("team/a", digest) == DATA
        assert (await push.site_get("team/a", digest, "HEAD")).headers["Content-Length"] == str(len(DATA))


async def test_blob_by_chunks_that_come_out_of_order(push: Pusher) -> None:
    location = await push.open("a")
    assert (await push.state(location)).headers["Range"] == "0-0"
    refused = await push.chunk(location, DATA[1000:2000], 1000)
    assert (refused.status, refused.code, refused.headers["Range"]) == (416, "BLOB_UPLOAD_INVALID", "0-0")
    assert (await push.chunk(location, DATA[:1000], 0)).headers["Range"] == "0-999"
    assert (await push.chunk(location, DATA[:1000], 0)).status == 416
    refused = await push.finish(location, DIGEST, DATA[2000:], 2000)
    assert (refused.status, refused.headers["Range"]) == (416, "0-999")
    assert (await push.state(location)).headers["Range"] == "0-999"
    assert (await push.chunk(location, DATA[1000:2000], 1000)).status == 202
    assert (await push.finish(location, DIGEST, DATA[2000:], 2000)).status == 201
    assert await push.read("a", DIGEST) == DATA
    assert (await push.state(location)).status == 404


async def test_length_that_is_not_what_the_range_says_changes_nothing(push: Pusher) -> None:
    location = await push.open("a")
    for header in ("0-9", "0-1000", "5-4"):
        answer = await push.request("PATCH", location, data=DATA[:100], headers={"Content-Range": header})
        assert (header, answer.status) == (header, 416)
    for header in ("bytes", "a-b", "0-", "-5", "0-9999999999999999999999"):
        answer = await push.request("PATCH", location, data=DATA[:100], headers={"Content-Range": header})
        assert (header, answer.status) == (header, 416)
    assert (await push.state(location)).headers["Range"] == "0-0"


@pytest.mark.parametrize("digest", [DIGEST, sha512(DATA)], ids=["sha256", "sha512"])
async def test_streamed_blob(push: Pusher, digest: Digest) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 70_000):
            yield DATA[start : start + 70_000]

    location = await push.open("a")
    answer = await push.request("PATCH", location, data=stream())
    assert (answer.status, answer.headers["Range"]) == (202, f"0-{len(DATA) - 1}")
    assert (await push.finish(location, digest)).status == 201
    assert await push.read("a", digest) == DATA


@pytest.mark.parametrize("parts", [0, 1])
async def test_empty_blob(push: Pusher, parts: int) -> None:
    location = await push.open("a")
    for _ in range(parts):
        assert (await push.request("PATCH", location, data=b"")).status == 202
    assert (await push.finish(location, Digest.of(b""))).status == 201
    assert await push.read("a", Digest.of(b"")) == b""


async def test_wrong_digest_leaves_the_session_as_it_was(push: Pusher) -> None:
    location = await push.open("a")
    await push.chunk(location, DATA[:1000], 0)
    for wrong in (ABSENT, sha512(b"")):
        answer = await push.finish(location, wrong, DATA[1000:])
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert (await push.state(location)).headers["Range"] == "0-999"
    assert (await push.finish(location, DIGEST, DATA[1000:])).status == 201


async def test_cancelled_session_leaves_nothing(push: Pusher, site: Site, tmp_path: Path) -> None:
    location = await push.open("a")
    await push.chunk(location, DATA, 0)
    assert (await push.request("DELETE", location)).status == 204
    assert (await push.state(location)).status == 404
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


async def test_broken_request_is_continued_where_it_broke(push: Pusher, site: Site) -> None:
    location = await push.open("a")
    reader, writer = await asyncio.open_connection(*site.host_port)
    head = f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(DATA)}\r\n\r\n"
    writer.write(head.encode() + DATA[:200_000])
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.transport.abort()
    while (size := int((await push.state(location)).headers["Range"].partition("-")[2]) + 1) < 2:
        await asyncio.sleep(0.02)
    assert size == 200_000
    assert (await push.chunk(location, DATA[size:], size)).status == 202
    assert (await push.finish(location, DIGEST)).status == 201
    del reader


async def test_client_that_stops_sending_is_let_go(push: Pusher, site: Site) -> None:
    location = await push.open("a")
    reader, writer = await asyncio.open_connection(*site.host_port)
    writer.write(f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode() + DATA[:10])
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert (await push.state(location)).headers["Range"] == "0-9"


async def test_of_two_that_continue_a_session_at_once_one_counts(push: Pusher) -> None:
    location = await push.open("a")
    answers = await asyncio.gather(*(push.chunk(location, bytes([number]) * 1000, 0) for number in range(6)))
    assert sorted(answer.status for answer in answers) == [202] + [416] * 5
    assert (await push.state(location)).headers["Range"] == "0-999"


async def test_session_belongs_to_its_repository(push: Pusher) -> None:
    location = await push.open("a")
    elsewhere = location.replace("/v2/a/", "/v2/b/")
    for method in ("GET", "PATCH", "DELETE"):
        assert (await push.request(method, elsewhere, data=b"x")).code == "BLOB_UPLOAD_UNKNOWN"
    assert (await push.finish(elsewhere, Digest.of(b""))).code == "BLOB_UPLOAD_UNKNOWN"
    assert (await push.state(location)).status == 204


async def test_blob_of_another_repository_is_not_there(push: Pusher) -> None:
    await push.whole("a", DATA, DIGEST)
    assert (await push.site_get("b", DIGEST)).code == "BLOB_UNKNOWN"
    assert (await push.site_get(NUMPY, DIGEST)).code == "BLOB_UNKNOWN"


async def test_the_same_blob_is_stored_once(push: Pusher, tmp_path: Path) -> None:
    for repository in ("a", "b", "a"):
        assert (await push.whole(repository, DATA, DIGEST)).status == 201
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


async def test_mounts(push: Pusher) -> None:
    await push.whole("a", DATA, DIGEST)
    for target, query in (("b", f"mount={DIGEST}&from=a"), ("c", f"mount={DIGEST}")):
        answer = await push.request("POST", f"/v2/{target}/blobs/uploads/?{query}")
        assert (answer.status, answer.headers["Location"]) == (201, f"/v2/{target}/blobs/{DIGEST}")
        assert await push.read(target, DIGEST) == DATA
    for query in (f"mount={DIGEST}&from=none", f"mount={ABSENT}"):
        answer = await push.request("POST", f"/v2/d/blobs/uploads/?{query}")
        assert answer.status == 202
        assert (await push.finish(answer.headers["Location"], DIGEST, DATA)).status == 201
        assert (await push.request("DELETE", f"/v2/d/blobs/{DIGEST}")).status == 202


class OnlyOthers:
    """An Access that hides the repository `secret`."""

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        return entity != "secret"

    def patterns(self, principal: Principal, permission: Permission) -> Sequence[Collection[str]]:
        return [("*/*",)]

    def may_everywhere(self, principal: Principal, permission: Permission) -> bool:
        return False

    def may_within(self, principal: Principal, permission: Permission, namespace: str) -> bool:
        return True

    def places(self, principal: Principal, permission: Permission) -> Places:
        return EVERYWHERE


@pytest.mark.parametrize(
    "query",
    [
        "mount=sha256:abc&from=a",
        "mount=",
        "mount=x:y",
        f"mount={DIGEST}&from=B/../c",
        f"mount={DIGEST}&from=",
        f"mount={DIGEST}&from=%00",
        f"mount={DIGEST[:-1]}",
    ],
)
async def test_a_mount_of_what_is_no_name_is_an_upload(push: Pusher, query: str) -> None:
    opened = await push.request("POST", f"/v2/b/blobs/uploads/?{query}")
    assert opened.status == 202
    finished = await push.request("PUT", f"{opened.headers['Location']}?digest={DIGEST}", data=DATA)
    assert finished.status == 201


async def test_mount_needs_the_right_to_read(tmp_path: Path) -> None:
    async with serving(tmp_path, access=OnlyOthers()) as site:
        push = Pusher(site)
        await site.workshop.put_blob(DATA, "secret")
        for query in (f"mount={DIGEST}&from=secret", f"mount={DIGEST}"):
            assert (await push.request("POST", f"/v2/b/blobs/uploads/?{query}")).status == 202
        assert (await push.site_get("b", DIGEST)).status == 404
        for method, path in (("GET", f"/v2/secret/blobs/{DIGEST}"), ("POST", "/v2/secret/blobs/uploads/")):
            assert (await push.request(method, path)).code == "UNAUTHORIZED"
        assert json.loads((await push.request("GET", "/v2/_catalog")).body) == {"repositories": []}


async def test_deleted_blob_is_gone_at_once_and_may_come_back(push: Pusher) -> None:
    for _ in range(3):
        assert (await push.whole("a", DATA, DIGEST)).status == 201
        assert await push.read("a", DIGEST) == DATA
        assert (await push.request("DELETE", f"/v2/a/blobs/{DIGEST}")).status == 202
        assert (await push.site_get("a", DIGEST)).status == 404
        assert (await push.site_get("a", DIGEST, "HEAD")).status == 404
        # the bytes may still be on the disk: nobody has a right to them
        assert (await push.request("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}")).status == 202
