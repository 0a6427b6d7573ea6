"""Registries to mirror: one that does what a test says, a line that can be cut, and content for both."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver
from yarl import URL

from auth.access import Access
from auth.settings import AccessSettings
from builder.remote.logins import Login
from registry.http.settings import HttpSettings
from registry.mirror.client import OwnCredentials
from registry.mirror.service import Mirror
from registry.mirror.settings import MirrorSettings
from storage.digest import Digest
from storage.oci import OCI_INDEX, OCI_MANIFEST
from storage.quotas.limits import Limits
from storage.store import Store
from tests.support.registry.serving import Site, serving

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass(frozen=True)
class Content:
    """A manifest of `media_type` over a config and layers."""

    body: bytes
    blobs: Mapping[Digest, bytes]
    media_type: str = OCI_MANIFEST

    @property
    def digest(self) -> Digest:
        return Digest.of(self.body)

    @property
    def layer(self) -> Digest:
        return list(self.blobs)[-1]


def image(*layers: bytes, algorithm: str = "sha256", **fields: Any) -> Content:
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    blobs = {Digest.of(data, algorithm): data for data in (config, *layers)}
    named = [{"mediaType": "application/octet-stream", "digest": key, "size": len(data)} for key, data in blobs.items()]
    named[0]["mediaType"] = "application/vnd.oci.image.config.v1+json"
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named[0], "layers": named[1:], **fields}
    return Content(json.dumps(document).encode(), blobs)


def index(*images: Content) -> Content:
    entries = [{"mediaType": each.media_type, "digest": each.digest, "size": len(each.body)} for each in images]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Content(json.dumps(document).encode(), {}, OCI_INDEX)


async def push(address: str, repository: str, content: Content, *tags: str, authorization: str = "") -> None:
    """Push to a real registry at host:port."""
    base = f"http://{address}/v2/{repository}"
    async with aiohttp.ClientSession(headers={"Authorization": authorization} if authorization else {}) as client:
        for digest, data in content.blobs.items():
            async with client.post(f"{base}/blobs/uploads/") as opened:
                assert opened.status == 202, await opened.text()
                location = opened.url.join(URL(opened.headers["Location"]))
            async with client.put(location.update_query(digest=digest), data=io.BytesIO(data)) as stored:
                assert stored.status == 201, await stored.text()
        headers = {"Content-Type": content.media_type}
        for reference in tags or (content.digest,):
            async with client.put(f"{base}/manifests/{reference}", data=content.body, headers=headers) as stored:
                assert stored.status == 201, await stored.text()


@dataclass
class ScriptedRegistry:
    """A registry in the test's own loop: it has what it is given, and `behaviour` may answer first."""

    port: int = 0
    manifests: dict[tuple[str, str], Content] = field(default_factory=dict)
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    behaviour: Behaviour | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def mirrored(self) -> str:
        """The beginning of the names of its copies."""
        return f"mirror/127.0.0.1_{self.port}"

    def put(self, repository: str, content: Content, *tags: str) -> None:
        for reference in (content.digest, *tags):
            self.manifests[repository, reference] = content
        for digest, data in content.blobs.items():
            self.blobs[repository, digest] = data

    def count(self, method: str, part: str) -> int:
        return sum(each == method and part in path for each, path in self.asked)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path))
        self.headers.append(request.headers)
        if self.behaviour is not None and (response := await self.behaviour(request)) is not None:
            return response
        repository, kind, reference = request.path.removeprefix("/v2/").rsplit("/", 2)
        if kind == "manifests" and (found := self.manifests.get((repository, reference))):
            headers = {"Content-Type": found.media_type, "Docker-Content-Digest": found.digest}
            return web.Response(body=found.body, headers=headers)
        if kind == "blobs" and (repository, reference) in self.blobs:
            return part_of(request, self.blobs[repository, reference])
        return failure(404, "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN", "unknown to the upstream")


def part_of(request: web.Request, data: bytes) -> web.Response:
    text = request.headers.get("Range", "").removeprefix("bytes=")
    if not text:
        return web.Response(body=data)
    first, _, last = text.partition("-")
    start, stop = int(first), int(last) + 1 if last else len(data)
    headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
    return web.Response(status=206, body=data[start:stop], headers=headers)


def failure(status: int, code: str, message: str, **headers: str) -> web.Response:
    document = {"errors": [{"code": code, "message": message}]}
    return web.json_response(document, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


@contextlib.asynccontextmanager
async def scripted_registry() -> AsyncIterator[ScriptedRegistry]:
    registry = ScriptedRegistry()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    registry.port = runner.addresses[0][1]
    try:
        yield registry
    finally:
        await runner.cleanup()


@dataclass
class Line:
    """A TCP line to a port of this machine; while `most` is set it passes on only that many bytes of each answer."""

    target: int
    most: int | None = None
    port: int = 0
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once an answer is held back."""
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers += [writer, far_writer]
            there = asyncio.create_task(self._pass_on(reader, far_writer, limited=False))
            await self._pass_on(far_reader, writer, limited=True)
            await there
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, limited: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if limited and self.most is not None and passed + len(data) > self.most:
                    self.held.set()
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
                passed += len(data)
        writer.close()

    def cut(self) -> None:
        """Break all connections without an orderly end."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@contextlib.asynccontextmanager
async def line_to(port: int) -> AsyncIterator[Line]:
    line = Line(port)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(line.serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        line.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()
        await server.wait_closed()


class MirrorTimes(TypedDict, total=False):
    """Settings of mirrors that tests shorten, in seconds."""

    mirror_fresh_for: float
    mirror_keep: float
    mirror_patience: float
    mirror_stall_seconds: float
    mirror_retry_after: float


QUICK: MirrorTimes = {"mirror_fresh_for": 0.0, "mirror_retry_after": 0.0}
"""Nothing is fresh, and a failed request is repeated at once."""


@contextlib.asynccontextmanager
async def mirroring(
    directory: Path,
    *hosts: str,
    internal: Sequence[str] | None = None,
    http: HttpSettings | None = None,
    logins: Mapping[str, Login] | None = None,
    insecure: Collection[str] = (),
    resolver: AbstractResolver | None = None,
    limits: Limits | None = None,
    access: Access | None = None,
    sign_in: AccessSettings | None = None,
    own: OwnCredentials | None = None,
    database: str | None = None,
    **times: Unpack[MirrorTimes],
) -> AsyncIterator[Site]:
    """A server that mirrors the registries `hosts`; they may be internal, unless `internal` says which are."""
    mirrored = MirrorSettings(
        mirrors=hosts, mirror_internal_hosts=tuple(hosts if internal is None else internal), **times
    )

    def open_mirror(store: Store) -> contextlib.AbstractAsyncContextManager[Mirror]:
        return Mirror.open(
            mirrored,
            store.blobs,
            store.repositories,
            directory / "mirror",
            logins=logins or {},
            insecure=tuple(insecure),
            resolver=resolver,
            own=own,
        )

    async with serving(
        directory,
        http,
        limits=limits,
        access=access,
        sign_in=sign_in,
        database=database,
        open_mirror=open_mirror,
    ) as site:
        yield site
