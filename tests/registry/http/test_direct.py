"""Large bodies, which go past the event loop: whole, in pieces, broken off, refused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.http.direct import LEAST
from registry.http.settings import HttpSettings
from storage.digest import Digest
from storage.errors import StorageFull
from storage.objects.files import FileObjects
from storage.objects.protocol import ObjectWriter
from tests.support.registry.pushes import Pusher
from tests.support.registry.serving import Site, serving

DATA = random.Random(3).randbytes(2 * LEAST + 12_345)
DIGEST = Digest.of(DATA)


async def opened(site: Site, *headers: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """A connection on which a large PATCH has begun, and the session's location."""
    location = await Pusher(site).open("a")
    reader, writer = await asyncio.open_connection(*site.host_port)
    head = "\r\n".join((f"PATCH {location} HTTP/1.1", "Host: a", f"Content-Length: {len(DATA)}", *headers))
    writer.write(f"{head}\r\n\r\n".encode())
    return reader, writer, location


def test_whole_blobs_one_after_another(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            push = Pusher(site)
            for number in range(3):
                data = DATA[number:]
                location = await push.open("a")
                assert (await push.chunk(location, data, 0)).headers["Connection"] == "close"
                assert (await push.finish(location, Digest.of(data))).status == 201
                assert await push.read("a", Digest.of(data)) == data
                assert (await push.whole("b", data, Digest.of(data))).status == 201

    run(scenario())


@pytest.mark.parametrize("size", [1_000, 70_000, 600_000, 3_000_000])
def test_body_in_pieces(run: Callable[..., None], tmp_path: Path, size: int) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            reader, writer, location = await opened(site)
            for start in range(0, len(DATA), size):
                writer.write(DATA[start : start + size])
                if start < 10 * size:
                    await asyncio.sleep(0.005)
                await writer.drain()
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 202 ")
            writer.close()
            assert (await Pusher(site).finish(location, DIGEST)).status == 201

    run(scenario())


def test_what_came_before_the_client_was_gone_stays(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            push = Pusher(site)
            _, writer, location = await opened(site)
            writer.write(DATA[: LEAST + 1])
            await writer.drain()
            writer.close()
            while (state := await push.state(location)).headers["Range"] == "0-0":
                await asyncio.sleep(0.02)
            assert state.headers["Range"] == f"0-{LEAST}"
            assert (await push.chunk(location, DATA[LEAST + 1 :], LEAST + 1)).status == 202
            assert (await push.finish(location, DIGEST)).status == 201

    run(scenario())


def test_client_that_stops_sending(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, HttpSettings(stall_seconds=0.3)) as site:
            reader, writer, location = await opened(site)
            writer.write(DATA[:100_000])
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 400 ")
            writer.close()
            assert (await Pusher(site).state(location)).headers["Range"] == "0-99999"

    run(scenario())


def test_refusal_reaches_a_client_that_is_still_sending(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            reader, writer, location = await opened(site, f"Content-Range: 5-{len(DATA) + 4}")
            writer.write(DATA)
            await writer.drain()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 416 ")
            writer.close()
            assert (await Pusher(site).state(location)).status == 204

    run(scenario())


class FullAfter(FileObjects):
    """A store whose disk is full after so many bytes."""

    def __init__(self, objects: FileObjects, most: int) -> None:
        super().__init__(objects.path("").parent)
        self._most = most

    def writer(self, key: str) -> ObjectWriter:
        writer = super().writer(key)
        write = writer.write

        def limited(data: bytes | bytearray | memoryview) -> None:
            if writer.size + len(data) > self._most:
                raise StorageFull("blobs")
            write(data)

        writer.write = limited  # type: ignore[method-assign] # what is tested is who calls it
        return writer


def test_disk_that_is_full_half_way(run: Callable[..., None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            blobs = site.workshop.store.blobs
            assert isinstance(blobs.objects, FileObjects)
            whole, blobs.objects = blobs.objects, FullAfter(blobs.objects, LEAST)
            reader, writer, location = await opened(site)
            writer.write(DATA)
            await writer.drain()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 507 ")
            writer.close()
            blobs.objects = whole
            push = Pusher(site)
            assert (await push.state(location)).headers["Range"] == "0-0"
            assert (await push.finish(location, DIGEST, DATA)).status == 201

    run(scenario())
