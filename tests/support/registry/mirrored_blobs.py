"""A large layer of another registry, its transfer, and what is stored of it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import func, select

from registry.mirror.download import Download
from registry.mirror.service import Mirror
from registry.parts import PARTS
from storage.database import tables
from storage.digest import Digest
from storage.objects.files import FileObjects
from tests.support.registry.mirrored import APP
from tests.support.registry.serving import Site
from tests.support.registry.upstreams import MirrorTimes, ScriptedRegistry, image

LAYER = os.urandom(3_000_000)
HALF = len(LAYER) // 2
IMAGE = image(LAYER)
CONFIG = next(iter(IMAGE.blobs))
LYING: MirrorTimes = {"mirror_retry_after": 0.0}


def path_of(upstream: ScriptedRegistry, digest: Digest = IMAGE.layer) -> str:
    return f"/v2/{upstream.mirrored}/{APP}/blobs/{digest}"


async def assert_nothing_stored(site: Site, digest: Digest = IMAGE.layer) -> None:
    """Check that there is no blob, and no bytes, not even some that wait to be deleted."""
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
    """The behaviour of an upstream that sends half of a blob, and the rest on command."""

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


async def cut_short(client: Site | aiohttp.ClientSession, path: str) -> bytes:
    """The bytes of a blob that broke off."""
    received = bytearray()

    async def pull() -> None:
        async with client.request("GET", path) as response:
            assert response.status == 200
            async for chunk in response.content.iter_any():
                received.extend(chunk)

    with pytest.raises(aiohttp.ClientPayloadError):
        await pull()
    return bytes(received)


@dataclass
class Sends:
    """The behaviour of an upstream that sends `content` for every blob, and declares `length` bytes."""

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
