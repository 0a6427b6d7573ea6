"""What a client sees while its image is built: bytes in time, an honest end, and one build whatever it does."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import TooManyBuilds, Unsatisfiable
from builder.image.documents import write_beginning
from builder.work.claims import Caller, permit_all
from registry.http.settings import HttpSettings
from registry.kinds.waiting import pauses
from registry.parts import MEMORY
from storage.digest import Digest
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.support.registry.serving import NUMPY, ROOT, Site, serving, spec_of

ANSWER_WITHIN = 0.3
QUICK = HttpSettings(answer_within=ANSWER_WITHIN, trickle_interval=0.001, trickle_slowest=0.002, trickle_cover=0.02)
PATH = f"/v2/{NUMPY}/manifests/latest"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, QUICK) as running:
        yield running


async def get(site: Site, path: str = PATH, **headers: str) -> tuple[aiohttp.ClientResponse, bytes]:
    async with site.request("GET", path, headers=headers) as answer:
        return answer, await answer.read()


async def test_build_that_ends_in_time_is_a_normal_answer(site: Site) -> None:
    asking = asyncio.ensure_future(get(site))
    await site.started(NUMPY)
    image = await site.workshop.finish(NUMPY)
    answer, body = await asking
    assert answer.status == 200
    assert answer.headers["Docker-Content-Digest"] == image.variants[0].digest == Digest.of(body)


@pytest.mark.parametrize(
    ("repository", "accept", "media_type"),
    [
        (NUMPY, "*/*", OCI_INDEX),
        (NUMPY, DOCKER_MANIFEST, DOCKER_MANIFEST),
        (f"{ROOT}/single/numpy", f"{OCI_INDEX}, {OCI_MANIFEST}", OCI_MANIFEST),
    ],
)
async def test_long_build_trickles_the_manifest_itself(
    site: Site, repository: str, accept: str, media_type: str
) -> None:
    async with site.request("GET", f"/v2/{repository}/manifests/latest", headers={"Accept": accept}) as answer:
        # headers are here and the build has not ended
        build = site.workshop.builds[repository]
        assert not build.ended.done()
        assert answer.status == 200
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["Server"] == "condery"
        assert answer.headers["X-Request-ID"]
        assert "Docker-Content-Digest" not in answer.headers
        assert "Content-Length" not in answer.headers
        first = await answer.content.readexactly(12)
        assert write_beginning(build.spec, media_type).startswith(first)
        assert not build.ended.done()
        image = await site.workshop.finish(repository)
        body = first + await answer.read()
    assert Digest.of(body) == next(each.digest for each in image.variants if each.media_type == media_type)


async def test_build_longer_than_its_beginning_is_still_answered(site: Site) -> None:
    async with site.request("GET", PATH) as answer:
        start = write_beginning(site.workshop.builds[NUMPY].spec, OCI_INDEX)
        assert await answer.content.readexactly(len(start)) == start
        await asyncio.sleep(0.1)
        image = await site.workshop.finish(NUMPY)
        assert Digest.of(start + await answer.read()) == image.variants[0].digest


async def test_failure_after_the_headers_cuts_the_connection(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with site.request("GET", PATH) as answer:
        assert answer.status == 200
        site.workshop.builds[NUMPY].ended.set_exception(Unsatisfiable("linux-64", "no"))
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    await asyncio.sleep(0.15)
    (line,) = map(json.loads, site.log.getvalue().splitlines())
    assert (line["error"], line["status"], line["build"]) == ("Unsatisfiable", 499, "build0")
    assert caplog.records == []


async def test_manifest_that_does_not_begin_as_sent_cuts_the_connection(site: Site) -> None:
    async with site.request("GET", PATH) as answer:
        await answer.content.readexactly(10)
        other = await site.workshop.put(f"{ROOT}/other")
        # the two differ in the name of a package, near the end of the beginning
        await answer.content.readexactly(len(write_beginning(site.workshop.builds[NUMPY].spec, OCI_INDEX)) - 10)
        site.workshop.builds[NUMPY].ended.set_result(other)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_head_waits_then_says_that_there_will_be_something(site: Site) -> None:
    async with site.request("HEAD", PATH) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == OCI_INDEX
        assert "Docker-Content-Digest" not in answer.headers
        assert "Content-Length" not in answer.headers
    image = await site.workshop.finish(NUMPY)
    async with site.request("HEAD", PATH) as answer:
        assert answer.headers["Docker-Content-Digest"] == image.variants[0].digest


async def test_head_of_a_failed_build_is_404(site: Site) -> None:
    asking = asyncio.ensure_future(_status(site, "HEAD"))
    (await site.started(NUMPY)).ended.set_exception(Unsatisfiable("linux-64", "no"))
    assert await asking == 404


async def _status(site: Site, method: str) -> int:
    async with site.request(method, PATH) as answer:
        return answer.status


async def test_client_that_wants_headers_in_time_gets_them(site: Site) -> None:
    """As containerd 2.3, which gives up after 30 s without headers where the rule says 20."""
    timeout = aiohttp.ClientTimeout(sock_read=ANSWER_WITHIN * 1.5 + 1)
    async with site.request("GET", PATH, timeout=timeout) as answer:
        assert answer.status == 200
        await site.workshop.finish(NUMPY)
        await answer.read()


async def test_no_pause_between_bytes_is_long(tmp_path: Path) -> None:
    settings = HttpSettings(answer_within=0.1, trickle_interval=0.02, trickle_slowest=0.05, trickle_cover=60)
    async with serving(tmp_path, settings) as site:
        timeout = aiohttp.ClientTimeout(sock_read=2)
        async with site.request("GET", PATH, timeout=timeout) as answer:
            for _ in range(20):
                assert len(await answer.content.readexactly(1)) == 1
            await site.workshop.finish(NUMPY)
            await answer.read()


async def test_hang_up_does_not_cancel_the_build(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    for moment in ("before headers", "in the trickle"):
        reader, writer = await asyncio.open_connection(*site.host_port)
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        build = await site.started(NUMPY)
        if moment == "in the trickle":
            await reader.readexactly(20)
        # a reset, as when the client's machine is gone
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        await asyncio.sleep(0.1)
        assert not build.ended.cancelled()
    image = await site.workshop.finish(NUMPY)
    answer, body = await get(site)
    assert answer.headers["Docker-Content-Digest"] == image.variants[0].digest == Digest.of(body)
    assert len(site.workshop.builds) == 1
    assert caplog.records == []


async def test_many_waiting_requests_share_one_build(site: Site) -> None:
    asking = [asyncio.ensure_future(get(site)) for _ in range(50)]
    await site.started(NUMPY)
    while site.workshop.asked < 50:
        await asyncio.sleep(0.005)
    image = await site.workshop.finish(NUMPY)
    assert {Digest.of(body) for _, body in await asyncio.gather(*asking)} == {image.variants[0].digest}
    assert len(site.workshop.builds) == 1


async def test_http_1_0_client_gets_no_chunks(site: Site) -> None:
    reader, writer = await asyncio.open_connection(*site.host_port)
    writer.write(f"GET {PATH} HTTP/1.0\r\n\r\n".encode())
    headers = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in headers
    image = await site.workshop.finish(NUMPY)
    assert Digest.of(await reader.read()) == image.variants[0].digest
    writer.close()
    await writer.wait_closed()


@given(st.integers(1, 2000))
def test_pauses_cover_a_long_build_and_none_is_too_long(count: int) -> None:
    settings = HttpSettings()
    waited = list(pauses(count, settings))
    assert len(waited) == count
    assert max(waited) <= 20
    assert sum(waited) >= min(settings.trickle_cover, count * settings.trickle_slowest) - settings.trickle_slowest


@pytest.mark.parametrize("media_type", [OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST])
def test_trickle_covers_ten_minutes_of_building(media_type: str) -> None:
    assert sum(pauses(len(write_beginning(spec_of(NUMPY), media_type)) - 1, HttpSettings())) > 600


@pytest.mark.parametrize("reason", ["", "no package numpy (build 12)"])
async def test_an_old_image_says_so_and_head_and_get_agree(site: Site, reason: str) -> None:
    image = await site.workshop.put(NUMPY)
    site.workshop.stored[NUMPY] = replace(image, expires=1)
    await site.workshop.image(NUMPY, "latest", Caller(), permit_all)
    site.workshop.builds[NUMPY].stale = reason
    async with site.request("HEAD", PATH) as head:
        digest = head.headers["Docker-Content-Digest"]
    answer, body = await get(site)
    assert digest == answer.headers["Docker-Content-Digest"] == image.variants[0].digest == Digest.of(body)
    expected = ['110 - "Response is Stale"', f'111 - "Revalidation Failed: {reason}"'][: 2 if reason else 1]
    assert answer.headers.getall("Warning") == expected
    by_digest, _ = await get(site, f"/v2/{NUMPY}/manifests/{digest}")
    assert (by_digest.status, "Warning" in by_digest.headers) == (200, False)


@pytest.mark.parametrize("path", [PATH, f"/files/{NUMPY}/latest/explicit.txt"])
async def test_too_many_builds_of_a_caller_are_429_with_what_to_do(site: Site, path: str) -> None:
    site.workshop.refusal = TooManyBuilds(100, 100, "builds_per_caller", "203.0.113.1")
    async with site.request("GET", path) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
        assert "ask again when some have ended" in await answer.text()


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
async def test_who_asks_is_an_address_or_a_network(tmp_path: Path, address: str, caller: str) -> None:
    settings = HttpSettings(trusted_proxies=("127.0.0.1",))
    async with serving(tmp_path, settings) as site:
        await site.workshop.put(NUMPY)
        shown = f"[{address}]" if ":" in address else address
        for forwarded in (address, shown):
            async with site.request("GET", PATH, headers={"X-Forwarded-For": forwarded}) as answer:
                assert answer.status == 200
            site.app[MEMORY]._tags.clear()
        assert set(site.workshop.callers) == {Caller(caller)}
