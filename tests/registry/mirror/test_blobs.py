"""Blobs of other registries: passed on while they come, fetched once, and stored when they are what they should be."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import func, select

from registry.http.settings import HttpSettings
from registry.mirror import fetching
from registry.mirror.download import Download
from registry.mirror.names import Source
from registry.mirror.service import Mirror
from registry.parts import PARTS
from storage.database import tables
from storage.digest import Digest
from storage.errors import StorageFull
from storage.objects.files import FileObjects
from storage.objects.protocol import ObjectPart, ObjectWriter
from storage.objects.s3 import S3Objects
from storage.objects.segments import Segment
from storage.quotas.limits import Limits, Quota
from tests.support.registry.mirrored import APP, get, name_of, refused
from tests.support.registry.serving import Site
from tests.support.registry.upstreams import (
    Behaviour,
    MirrorTimes,
    ScriptedRegistry,
    image,
    line_to,
    mirroring,
    part_of,
    push,
    scripted_registry,
)
from tests.support.servers import distribution
from tests.support.servers.s3_server import S3Server
from tests.support.storage.s3_buckets import location, names_in

LAYER = os.urandom(3_000_000)
HALF = len(LAYER) // 2
IMAGE = image(LAYER)
CONFIG = next(iter(IMAGE.blobs))
LYING: MirrorTimes = {"mirror_retry_after": 0.0}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.001)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedRegistry]:
    async with scripted_registry() as registry:
        registry.put(APP, IMAGE, "latest")
        yield registry


def path_of(upstream: ScriptedRegistry, digest: Digest = IMAGE.layer) -> str:
    return f"/v2/{upstream.mirrored}/{APP}/blobs/{digest}"


async def assert_nothing_stored(site: Site, digest: Digest = IMAGE.layer) -> None:
    """No blob, no bytes, and none that are waiting to be deleted."""
    store = site.workshop.store
    while site_downloads(site):
        await asyncio.sleep(0.01)
    async with store.database.reading() as connection:
        assert (await connection.execute(select(tables.blob).where(tables.blob.c.digest == digest))).all() == []
        assert (await connection.execute(select(func.count()).select_from(tables.pending))).scalar() == 0
    assert isinstance(store.blobs.objects, FileObjects)
    sizes = [path.stat().st_size for path in store.blobs.objects.path("00").parents[1].rglob("*") if path.is_file()]
    assert sum(sizes) < len(LAYER) // 3


def mirror_of(site: Site) -> Mirror:
    mirror = site.app[PARTS].mirror
    assert mirror is not None
    return mirror


def site_downloads(site: Site) -> list[Download]:
    return list(mirror_of(site)._fetching._running.values())


@dataclass
class Gate:
    """The behaviour of an upstream that sends half of a blob, and the rest when it is told to."""

    half: asyncio.Event
    rest: asyncio.Event

    async def __call__(self, request: web.Request) -> web.StreamResponse | None:
        if request.method != "GET" or "/blobs/" not in request.path:
            return None
        response = web.StreamResponse(headers={"Content-Length": str(len(LAYER))})
        await response.prepare(request)
        await response.write(LAYER[:HALF])
        self.half.set()
        await self.rest.wait()
        await response.write(LAYER[HALF:])
        await response.write_eof()
        return response


@pytest.fixture
def gate(upstream: ScriptedRegistry) -> Gate:
    upstream.behaviour = found = Gate(asyncio.Event(), asyncio.Event())
    return found


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
        await refused(site, path_of(upstream).removeprefix("/v2/"), 404, "BLOB_UNKNOWN")
        async with site.request("HEAD", path_of(upstream)) as response:
            assert response.status == 404


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
            response = web.StreamResponse(headers={"Content-Length": str(len(LAYER))})
            await response.prepare(request)
            await response.write(LAYER[:HALF])
            assert request.transport is not None
            request.transport.close()
            return response
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

    async def breaks_once(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        response = web.StreamResponse(headers={"Content-Length": str(len(LAYER))})
        await response.prepare(request)
        await response.write(LAYER if asked > 1 else LAYER[:HALF])
        assert request.transport is not None
        request.transport.close()
        return response

    upstream.behaviour = breaks_once
    async with mirroring(tmp_path, upstream.host) as site:
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
    assert asked == 2


async def cut_short(client: Site | aiohttp.ClientSession, path: str) -> bytes:
    """What came of a blob that never became whole."""
    received = bytearray()

    async def pull() -> None:
        async with client.request("GET", path) as response:
            assert response.status == 200
            async for chunk in response.content.iter_any():
                received.extend(chunk)

    with pytest.raises(aiohttp.ClientPayloadError):
        await pull()
    return bytes(received)


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
                message = await refused(site, path.removeprefix("/v2/"), 404, "BLOB_UNKNOWN")
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


@dataclass
class Sends:
    """The behaviour of an upstream that sends `content` for every blob, and says that it has `length` bytes."""

    content: bytes
    length: int | None

    async def __call__(self, request: web.Request) -> web.StreamResponse | None:
        if "/blobs/" not in request.path or request.method != "GET":
            return None
        response = web.StreamResponse()
        if self.length is None:
            response.enable_chunked_encoding()
        else:
            response.headers["Content-Length"] = str(self.length)
        await response.prepare(request)
        await response.write(self.content)
        if self.length is None or self.length == len(self.content):
            await response.write_eof()
        elif request.transport is not None:
            request.transport.close()
        return response


OTHER = LAYER[:-1] + bytes([LAYER[-1] ^ 1])


@pytest.mark.parametrize(
    ("content", "length"),
    [(OTHER, len(OTHER)), (OTHER, None), (LAYER[:-1], len(LAYER))],
    ids=["another digest", "another digest, chunked", "never all of it"],
)
async def test_lies_that_show_late_cut_the_client_off(
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
        assert message in await refused(site, path_of(upstream).removeprefix("/v2/"), 404, "BLOB_UNKNOWN")
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
        assert "does not state the size of blob" in await refused(site, path, 404, "BLOB_UNKNOWN")
        await get(site, f"{upstream.mirrored}/{APP}/manifests/latest")
        assert await get(site, path) == LAYER


# whose blobs


async def test_a_blob_of_another_repository_has_to_be_the_upstreams_too(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    """A manifest that names somebody's secret by its digest, pulled through, shows nothing of it."""
    secret = b"secret of somebody else"
    naming = image(secret)
    upstream.put(APP, naming, "naming")
    del upstream.blobs[APP, naming.layer]
    async with mirroring(tmp_path, upstream.host) as site:
        await site.workshop.put_blob(secret, "private/app")
        await get(site, f"{upstream.mirrored}/{APP}/manifests/naming")
        for method in ("GET", "HEAD"):
            async with site.request(method, path_of(upstream, naming.layer)) as response:
                assert response.status == 404
                assert secret not in await response.read()
        assert "unknown to the upstream" in await refused(
            site, path_of(upstream, naming.layer).removeprefix("/v2/"), 404, "BLOB_UNKNOWN"
        )


async def test_a_blob_of_the_same_registry_is_not_fetched_again(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    upstream.put("team/other", IMAGE, "latest")
    async with mirroring(tmp_path, upstream.host) as site:
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
        other = path_of(upstream).replace(APP, "team/other")
        assert await get(site, other.removeprefix("/v2/")) == LAYER
        assert upstream.count("GET", "/blobs/") == 1
        assert upstream.count("HEAD", "team/other/blobs/") == 1
        # only as far as the registry says so
        third = path_of(upstream).replace(APP, "team/third")
        await refused(site, third.removeprefix("/v2/"), 404, "BLOB_UNKNOWN")


async def test_a_blob_that_two_registries_have_is_fetched_from_both_and_stored_once(
    tmp_path: Path, upstream: ScriptedRegistry
) -> None:
    async with scripted_registry() as second:
        second.put(APP, IMAGE)
        async with mirroring(tmp_path, upstream.host, second.host) as site:
            for each in (upstream, second):
                assert await get(site, path_of(each).removeprefix("/v2/")) == LAYER
                assert each.count("GET", "/blobs/") == 1
            async with site.workshop.store.database.reading() as connection:
                assert (await connection.execute(select(func.count()).select_from(tables.blob))).scalar() == 1


async def test_two_servers_over_the_same_data_fetch_the_same_blob(
    tmp_path: Path, upstream: ScriptedRegistry, gate: Gate
) -> None:
    async with mirroring(tmp_path, upstream.host) as one, mirroring(tmp_path, upstream.host) as two:
        pulls = [asyncio.create_task(get(site, path_of(upstream).removeprefix("/v2/"))) for site in (one, two)]
        while upstream.count("GET", "/blobs/") < 2:
            await asyncio.sleep(0.01)
        gate.rest.set()
        assert await asyncio.gather(*pulls) == [LAYER, LAYER]
        upstream.behaviour = None
        for site in (one, two):
            assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
            while site_downloads(site):
                await asyncio.sleep(0.01)
        async with one.workshop.store.database.reading() as connection:
            assert (await connection.execute(select(func.count()).select_from(tables.pending))).scalar() == 0


async def test_a_quota_is_met_before_anything_is_fetched(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    limits = Limits(quotas=(Quota("mirror/*", bytes=1_000_000),))
    async with mirroring(tmp_path, upstream.host, limits=limits) as site:
        message = await refused(site, path_of(upstream).removeprefix("/v2/"), 403, "DENIED")
        assert "mirror/* may hold 1,000,000 bytes" in message
        await assert_nothing_stored(site)


# stores


class FarObjects:
    """An ObjectStore that is not local, as S3 is; full when an object has `room` bytes."""

    def __init__(self, root: Path) -> None:
        self._files = FileObjects(root)
        self.room = 1 << 40

    def writer(self, key: str) -> ObjectWriter:
        return _Limited(self._files.writer(key), self)

    def segments(self, key: str, start: int, stop: int) -> Sequence[Segment]:
        return self._files.segments(key, start, stop)

    def concatenate(self, key: str, parts: Sequence[ObjectPart]) -> None:
        self._files.concatenate(key, parts)

    def delete(self, keys: Iterable[str]) -> None:
        self._files.delete(keys)

    def link(self, key: str, *, media_type: str) -> str | None:
        return None

    def check(self) -> None:
        self._files.check()


class _Limited:
    def __init__(self, writer: ObjectWriter, store: FarObjects) -> None:
        self._writer, self._store = writer, store
        self.commit, self.abort = writer.commit, writer.abort

    @property
    def size(self) -> int:
        return self._writer.size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.size + len(data) > self._store.room:
            raise StorageFull("blobs")
        self._writer.write(data)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FarObjects:
    """What servers that are started from here on have for a store."""
    store = FarObjects(tmp_path / "blobs")
    monkeypatch.setattr("storage.store.open_objects", lambda _settings, floor: store)
    return store


async def test_a_store_that_is_far_away(
    tmp_path: Path, upstream: ScriptedRegistry, gate: Gate, far: FarObjects
) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.request("GET", path_of(upstream)) as response:
            assert await response.content.readexactly(HALF) == LAYER[:HALF]
            gate.rest.set()
            assert await response.content.read() == LAYER[HALF:]
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
        assert list((tmp_path / "mirror").iterdir()) == [], "what was on its way stayed"


@pytest.mark.services
async def test_a_bucket(
    tmp_path: Path, upstream: ScriptedRegistry, gate: Gate, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = location(s3_server)
    monkeypatch.setattr("storage.store.open_objects", lambda _settings, floor: S3Objects(where))
    async with mirroring(tmp_path, upstream.host) as site:
        async with site.request("GET", path_of(upstream)) as response:
            assert await response.content.readexactly(HALF) == LAYER[:HALF]
            gate.rest.set()
            assert await response.content.read() == LAYER[HALF:]
        blob = await site.workshop.store.blobs.find(IMAGE.layer)
        assert names_in(s3_server, where) == {blob.key}
        # from there on it is the bucket's to send
        async with site.request("GET", path_of(upstream), allow_redirects=False) as response:
            assert response.status == 307
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER
        upstream.behaviour = Sends(OTHER, len(OTHER))
        upstream.put(APP, image(b"other"))
        await cut_short(site, path_of(upstream, Digest.of(b"other")))
        while site_downloads(site):
            await asyncio.sleep(0.01)
        assert names_in(s3_server, where) == {blob.key}


async def test_a_full_disk_cuts_the_client_off_and_leaves_nothing(
    tmp_path: Path, upstream: ScriptedRegistry, far: FarObjects
) -> None:
    far.room = HALF
    async with mirroring(tmp_path, upstream.host) as site:
        assert len(await cut_short(site, path_of(upstream))) < len(LAYER)
        while site_downloads(site):
            await asyncio.sleep(0.01)
        assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
        far.room = 1 << 40
        assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER


async def test_nothing_stays_open(tmp_path: Path, upstream: ScriptedRegistry) -> None:
    async with mirroring(tmp_path, upstream.host) as site:
        await get(site, path_of(upstream, CONFIG).removeprefix("/v2/"))
        while site_downloads(site):
            await asyncio.sleep(0.01)
        before = open_files(tmp_path)
        upstream.behaviour = Sends(OTHER, len(OTHER))
        await cut_short(site, path_of(upstream))
        upstream.behaviour = None
        await get(site, path_of(upstream).removeprefix("/v2/"))
        while site_downloads(site):
            await asyncio.sleep(0.01)
        # the client may have its last byte before the file is closed
        while open_files(tmp_path) != before:
            await asyncio.sleep(0.01)


def open_files(directory: Path) -> list[str]:
    found = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [each for each in found if each.startswith(f"{directory}/blobs")]
