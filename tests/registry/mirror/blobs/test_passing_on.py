"""Blobs of other registries: passed on while they come, whole and in part, and asked for once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from auth.settings import AccessSettings
from registry.http.settings import HttpSettings
from registry.mirror.names import Source
from storage.digest import Digest
from tests.support.registry.mirrored import APP, get, get_refusal
from tests.support.registry.mirrored_blobs import (
    CONFIG,
    HALF,
    IMAGE,
    LAYER,
    LYING,
    Gate,
    assert_nothing_stored,
    mirror_of,
    path_of,
    site_downloads,
)
from tests.support.registry.people import People
from tests.support.registry.upstreams import Behaviour, ScriptedRegistry, image, mirroring

# when the cheap question is not answered

Refusal = Callable[[web.Request], web.StreamResponse | None]


def head_refused(status: int) -> Refusal:
    return lambda request: web.Response(status=status) if request.method == "HEAD" else None


def head_without_a_length(request: web.Request) -> web.StreamResponse | None:
    if request.method != "HEAD":
        return None
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    return response


def no_parts(request: web.Request) -> web.StreamResponse | None:
    """GET of the whole alone."""
    if request.method == "GET" and "Range" not in request.headers:
        return None
    return web.Response(status=405 if request.method == "HEAD" else 416)


def parts_without_a_total(request: web.Request) -> web.StreamResponse | None:
    if request.method == "HEAD":
        return web.Response(status=403)
    if "Range" in request.headers:
        return web.Response(status=206, body=LAYER[:1], headers={"Content-Range": "bytes 0-0/*"})
    return None


UNANSWERED = {
    **{f"HEAD answered {status}": head_refused(status) for status in (400, 401, 403, 404, 405, 500, 501)},
    "HEAD without a length": head_without_a_length,
    "HEAD and parts refused": no_parts,
    "parts without a total": parts_without_a_total,
}


def blobs_only(refusal: Refusal) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse | None:
        return refusal(request) if "/blobs/" in request.path else None

    return behave


@pytest.mark.parametrize("refusal", UNANSWERED.values(), ids=UNANSWERED)
async def test_a_blob_that_two_repositories_share_is_pulled_whatever_a_head_is_answered(
    tmp_path: Path, upstream: ScriptedRegistry, refusal: Refusal
) -> None:
    upstream.put("team/other", IMAGE, "latest")
    upstream.behaviour = blobs_only(refusal)
    async with mirroring(tmp_path, upstream.host, **LYING) as site:
        for repository in (APP, "team/other"):
            await get(site, f"{upstream.mirrored}/{repository}/manifests/latest")
            assert await get(site, path_of(upstream).replace(APP, repository).removeprefix("/v2/")) == LAYER


@pytest.mark.parametrize(
    "refusal", [each for name, each in UNANSWERED.items() if each is not no_parts], ids=lambda each: None
)
async def test_the_head_of_a_blob_that_is_not_here_has_its_size(
    tmp_path: Path, upstream: ScriptedRegistry, refusal: Refusal
) -> None:
    upstream.behaviour = blobs_only(refusal)
    async with mirroring(tmp_path, upstream.host, **LYING) as site:
        await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
        async with site.request("HEAD", path_of(upstream)) as response:
            assert (response.status, response.content_length) == (200, len(LAYER))
        await assert_nothing_stored(site)


async def test_a_registry_that_limits_requests_is_not_asked_twice(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    upstream.behaviour = blobs_only(lambda _: web.Response(status=429))
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.request("HEAD", path_of(upstream)) as response:
            assert response.status == 429
        assert [method for method, path in upstream.asked if "/blobs/" in path] == ["HEAD"]


@pytest.mark.parametrize("status", [401, 403, 405, 410, 500, 502])
async def test_failures_of_blobs_are_told_as_such(tmp_path: Path, upstream: ScriptedRegistry, status: int) -> None:
    upstream.behaviour = blobs_only(lambda _: web.Response(status=status))
    async with mirroring(tmp_path, upstream.host) as site:
        await get_refusal(site, path_of(upstream).removeprefix("/v2/"), 404, "BLOB_UNKNOWN")
        async with site.request("HEAD", path_of(upstream)) as response:
            assert response.status == 404


# while it comes


async def test_bytes_are_passed_on_before_the_rest_has_come(
    tmp_path: Path, upstream: ScriptedRegistry, gate: Gate
) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.request("GET", path_of(upstream)) as response:
            assert response.status == 200
            assert response.content_length == len(LAYER)
            assert response.headers["Docker-Content-Digest"] == IMAGE.layer
            assert response.headers["ETag"] == f'"{IMAGE.layer}"'
            assert await response.content.readexactly(HALF) == LAYER[:HALF]
            assert not gate.rest.is_set()
            gate.rest.set()
            assert await response.content.read() == LAYER[HALF:]
        assert await site.workshop.store.blobs.content(IMAGE.layer) == LAYER


async def test_twenty_clients_are_one_to_the_upstream(tmp_path: Path, upstream: ScriptedRegistry, gate: Gate) -> None:
    async with mirroring(tmp_path, upstream.host) as site:

        async def pull() -> bytes:
            async with site.request("GET", path_of(upstream)) as response:
                beginning = await response.content.readexactly(HALF)
                begun.release()
                return beginning + await response.content.read()

        begun = asyncio.Semaphore(0)
        pulls = [asyncio.create_task(pull()) for _ in range(20)]
        for _ in pulls:
            await begun.acquire()
        # one who comes late reads from the beginning too
        pulls.append(asyncio.create_task(pull()))
        await begun.acquire()
        gate.rest.set()
        for content in await asyncio.gather(*pulls):
            assert content == LAYER
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
        assert upstream.count("GET", "/blobs/") == 1


async def test_who_hangs_up_does_not_stop_it(tmp_path: Path, upstream: ScriptedRegistry, gate: Gate) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.request("GET", path_of(upstream)) as response:
            await response.content.readexactly(1000)
            response.close()
        gate.rest.set()
        while site_downloads(site):
            await asyncio.sleep(0.01)
        upstream.behaviour = None
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
        assert upstream.count("GET", "/blobs/") == 1


async def test_the_last_byte_waits_until_the_blob_is_stored(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    source = Source(upstream.host, APP)
    async with mirroring(tmp_path, upstream.host) as site:
        mirror = mirror_of(site)
        download, size = await mirror.blob(source, IMAGE.layer, 10)
        read = 0
        async for chunk in download.read(0, size):
            read += len(chunk)
            assert read < size or download.blob is not None
        assert read == size == len(LAYER)
        # of a part as well: what is not checked yet is not to end well
        empty, _ = await mirror.blob(source, CONFIG, 10)
        async for _ in empty.read(0, 1):
            assert empty.blob is not None


@pytest.mark.parametrize("content", [b"", b"x", b"xy"])
async def test_the_smallest_blobs(tmp_path: Path, upstream: ScriptedRegistry, content: bytes) -> None:
    upstream.put(APP, image(content))
    async with mirroring(tmp_path, upstream.host) as site:
        for _ in range(2):
            assert await get(site, path_of(upstream, Digest.of(content)).removeprefix("/v2/")) == content


# in part, and the head alone


async def test_a_head_asks_for_the_size_alone(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        for _ in range(2):
            async with site.request("HEAD", path_of(upstream)) as response:
                assert response.status == 200
                assert response.content_length == len(LAYER)
                assert response.headers["Docker-Content-Digest"] == IMAGE.layer
        async with site.request("HEAD", path_of(upstream, Digest.of(b"nothing"))) as response:
            assert response.status == 404
        assert upstream.count("GET", f"/blobs/{IMAGE.layer}") == 0
        await assert_nothing_stored(site)


RANGES = [("bytes=0-9", 0, 10), ("bytes=2000000-", 2_000_000, len(LAYER)), ("bytes=-5", len(LAYER) - 5, len(LAYER))]


@pytest.mark.parametrize(("text", "start", "stop"), RANGES)
async def test_a_part_of_what_is_not_here_yet(
    tmp_path: Path, upstream: ScriptedRegistry, text: str, start: int, stop: int
) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.request("GET", path_of(upstream), headers={"Range": text}) as response:
            assert response.status == 206
            assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(LAYER)}"
            assert await response.read() == LAYER[start:stop]
        assert "Range" not in upstream.headers[0]
        assert await site.workshop.store.blobs.content(IMAGE.layer) == LAYER


async def test_a_part_is_sent_from_what_has_come_when_the_rest_takes_long(
    tmp_path: Path, upstream: ScriptedRegistry, gate: Gate
) -> None:
    async with mirroring(tmp_path, upstream.host, http=HttpSettings(answer_within=0.1)) as site:
        await mirror_of(site).blob(Source(upstream.host, APP), IMAGE.layer, 60)
        async with site.request("GET", path_of(upstream), headers={"Range": "bytes=1000-1999"}) as response:
            assert response.status == 206
            assert await response.content.readexactly(999) == LAYER[1000:1999]
            gate.rest.set()
            assert await response.content.read() == LAYER[1999:2000]
        async with site.request("GET", path_of(upstream), headers={"Range": "bytes=9999999-"}) as response:
            assert response.status == 416


# who may keep the answer


async def test_no_shared_cache_keeps_what_takes_a_sign_in(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    closed = AccessSettings(anonymous_bindings=("none",))
    async with mirroring(tmp_path, upstream.host, sign_in=closed) as site:
        alice = await People(site).add("alice", "mirror/*=viewer")
        # before it is stored, while it comes, and once it is
        for method in ("HEAD", "GET", "GET"):
            async with site.request(method, path_of(upstream), headers=alice.headers) as answer:
                assert await answer.read() == (LAYER if method == "GET" else b"")
                assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"


async def test_a_shared_cache_keeps_what_anybody_may_read(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        for method in ("HEAD", "GET", "GET"):
            async with site.request(method, path_of(upstream)) as answer:
                await answer.read()
                assert answer.headers["Cache-Control"] == "max-age=31536000, immutable"
