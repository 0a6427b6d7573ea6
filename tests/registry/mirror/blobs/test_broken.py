"""Blobs of other registries that break off or lie: taken up again, or cut off and not kept."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from registry.http.settings import HttpSettings
from registry.mirror import fetching
from tests.support.registry.mirrored import APP, get, get_refusal, name_of
from tests.support.registry.mirrored_blobs import (
    HALF,
    IMAGE,
    LAYER,
    LYING,
    OTHER,
    Gate,
    Sends,
    assert_nothing_stored,
    cut_short,
    path_of,
    site_downloads,
)
from tests.support.registry.upstreams import ScriptedRegistry, line_to, mirroring, part_of, push
from tests.support.servers import distribution


@pytest.mark.parametrize("total", ["*", str(len(LAYER))])
@pytest.mark.parametrize("resumed", ["a part", "the whole", "416, then the whole"])
async def test_a_broken_blob_is_taken_up_whatever_a_resume_is_answered(
    tmp_path: Path, upstream: ScriptedRegistry, total: str, resumed: str
) -> None:
    async def break_once(request: web.Request) -> web.StreamResponse | None:
        if request.method != "GET" or "/blobs/" not in request.path:
            return None
        start = int(request.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        if upstream.count("GET", "/blobs/") == 1:
            return await Sends(LAYER[:HALF], len(LAYER))(request)
        if resumed == "a part":
            # and not all of the rest at once
            stop = min(start + len(LAYER) // 4, len(LAYER))
            headers = {"Content-Range": f"bytes {start}-{stop - 1}/{total}"}
            return web.Response(status=206, body=LAYER[start:stop], headers=headers)
        if resumed == "416, then the whole" and start:
            return web.Response(status=416)
        return web.Response(body=LAYER)

    upstream.behaviour = break_once
    async with mirroring(tmp_path, upstream.host) as site:
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER


# broken lines


async def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    ranges = []

    async def breaks(request: web.Request) -> web.StreamResponse:
        ranges.append(request.headers.get("Range"))
        start = int((ranges[-1] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        answer = part_of(request, LAYER)
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.headers["Content-Length"] = str(len(LAYER) - start)
        await response.prepare(request)
        await response.write(LAYER[start : start + 1_000_000])
        assert request.transport is not None
        request.transport.close()
        return response

    upstream.behaviour = breaks
    async with mirroring(tmp_path, upstream.host) as site:
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
    # of a connection that broke before a byte came the beginning is asked for again
    starts = [int((text or "bytes=0-").removeprefix("bytes=").removesuffix("-")) for text in ranges]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert len([start for start in starts if start]) >= 2


async def test_an_upstream_that_knows_no_ranges_is_read_again_from_the_beginning(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    asked = 0

    async def breaks_once(request: web.Request) -> web.StreamResponse | None:
        nonlocal asked
        asked += 1
        return await Sends(LAYER if asked > 1 else LAYER[:HALF], len(LAYER))(request)

    upstream.behaviour = breaks_once
    async with mirroring(tmp_path, upstream.host) as site:
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
    assert asked == 2


async def test_an_upstream_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "upstream"
    directory.mkdir()
    with distribution.serving(distribution.needed_registry(), directory) as (port, process):
        await push(f"127.0.0.1:{port}", APP, IMAGE, "latest")
        async with line_to(port) as line:
            address = f"127.0.0.1:{line.port}"
            async with mirroring(tmp_path / "data", address) as site:
                path = f"/v2/{name_of(address)}/blobs/{IMAGE.layer}"
                line.most = HALF
                pull = asyncio.create_task(cut_short(site, path))
                await line.held.wait()
                os.kill(process, signal.SIGKILL)
                line.cut()
                received = await pull
                assert received
                assert LAYER.startswith(received)
                await assert_nothing_stored(site)
                message = await get_refusal(site, path.removeprefix("/v2/"), 404, "BLOB_UNKNOWN")
                assert message == f"{address} cannot be reached, or broke the connection"


async def test_an_upstream_that_stalls_is_given_up(tmp_path: Path, upstream: ScriptedRegistry, gate: Gate) -> None:
    async with mirroring(tmp_path, upstream.host, mirror_stall_seconds=0.3) as site:
        assert LAYER.startswith(await cut_short(site, path_of(upstream)))
        await assert_nothing_stored(site)
        assert upstream.count("GET", "/blobs/") > fetching.MOST_RESUMED


async def test_a_server_that_stops_leaves_nothing(tmp_path: Path, upstream: ScriptedRegistry, gate: Gate) -> None:
    http = HttpSettings(shutdown_seconds=0.1)
    async with aiohttp.ClientSession() as client:
        async with mirroring(tmp_path, upstream.host, http=http) as site:
            pull = asyncio.create_task(cut_short(client, site.url + path_of(upstream)))
            await gate.half.wait()
            while not any(download._come for download in site_downloads(site)):
                await asyncio.sleep(0.01)
        assert LAYER.startswith(await pull)
    async with mirroring(tmp_path, upstream.host) as site:
        await assert_nothing_stored(site)


# lies


@pytest.mark.parametrize(
    ("content", "length"),
    [(OTHER, len(OTHER)), (OTHER, None), (LAYER[:-1], len(LAYER))],
    ids=["another digest", "another digest, chunked", "never all of it"],
)
async def test_cve_2024_6915_lies_that_show_late_cut_the_client_off(
    tmp_path: Path, upstream: ScriptedRegistry, content: bytes, length: int | None
) -> None:
    async with mirroring(tmp_path, upstream.host, **LYING) as site:
        await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
        upstream.behaviour = Sends(content, length)
        received = await cut_short(site, path_of(upstream))
        assert len(received) < len(LAYER)
        await assert_nothing_stored(site)
        upstream.behaviour = None
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER


@pytest.mark.parametrize(
    ("content", "length", "message"),
    [
        (LAYER + b"!", len(LAYER) + 1, "announced 3000001 bytes for blob"),
        (LAYER[:-1], len(LAYER) - 1, "announced 2999999 bytes for blob"),
        (b"", 0, "announced 0 bytes for blob"),
    ],
)
async def test_lies_about_the_length_are_refused_at_once(
    tmp_path: Path, upstream: ScriptedRegistry, content: bytes, length: int, message: str
) -> None:
    async with mirroring(tmp_path, upstream.host, **LYING) as site:
        await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
        upstream.behaviour = Sends(content, length)
        assert message in await get_refusal(site, path_of(upstream).removeprefix("/v2/"), 404, "BLOB_UNKNOWN")
        await assert_nothing_stored(site)


async def test_more_than_was_announced_is_not_taken(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host, **LYING) as site:
        await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
        upstream.behaviour = Sends(LAYER + b"!" * 100_000, None)
        received = await cut_short(site, path_of(upstream))
        assert len(received) < len(LAYER)
        await assert_nothing_stored(site)


async def test_a_size_that_nobody_tells(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    upstream.behaviour = Sends(LAYER, None)
    async with mirroring(tmp_path, upstream.host, **LYING) as site:
        path = path_of(upstream).removeprefix("/v2/")
        assert "does not state the size of blob" in await get_refusal(site, path, 404, "BLOB_UNKNOWN")
        await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
        assert await get(site, path) == LAYER
