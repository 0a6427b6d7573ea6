"""A conda channel served over local HTTP, with faults on demand.

async with ChannelServer(directory) as server:
    server.fail("numpy-1.0-0.conda", status=500, times=2)
    ... server.url ...
    assert server.requests[-1].path == "/noarch/numpy-1.0-0.conda"

A test that has no event loop for it runs it `in_a_thread`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from aiohttp import web

_PIECE = 1 << 18


@dataclass
class Fault:
    """What happens to the next `times` requests whose path ends with `path`."""

    path: str
    times: int
    status: int | None = None
    cut_after: int | None = None
    redirect: str | None = None
    stall: bool = False


@dataclass(frozen=True)
class Held:
    """Requests whose path ends with `path` wait from `reached` until `released`; other threads may use both."""

    path: str
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    async def pass_through(self) -> None:
        self.reached.set()
        while not self.released.is_set():
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    status: int


@dataclass
class ChannelServer:
    """Serves `directory` at `url` with ETag, Last-Modified, Range, If-Range and If-None-Match.

    Only requests with the `authorization` header are allowed; others get 401. `ranges=False` ignores Range.
    """

    directory: Path
    authorization: str | None = None
    ranges: bool = True
    port: int = 0
    rate: float = 0.0
    """Bytes per second of all bodies together, like those of a network; 0 is no bound."""
    requests: list[Seen] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    holds: list[Held] = field(default_factory=list)
    _free: float = field(default=0.0, init=False)
    """When the network has sent what was given to it, by the event loop's clock."""

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(
        self,
        path: str,
        *,
        times: int = 1,
        status: int | None = None,
        cut_after: int | None = None,
        redirect: str | None = None,
        stall: bool = False,
    ) -> None:
        """Answer with `status`, close the connection after `cut_after` bytes of body, redirect, or stall."""
        self.faults.append(Fault(path, times, status, cut_after, redirect, stall))

    def hold(self, path: str) -> Held:
        """Make requests whose path ends with `path` wait until the result is released."""
        self.holds.append(Held(path))
        return self.holds[-1]

    def seen(self, suffix: str) -> list[Seen]:
        return [request for request in self.requests if request.path.endswith(suffix)]

    def _take_fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and path.endswith(fault.path):
                fault.times -= 1
                return fault
        return None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        for held in self.holds:
            if request.path.endswith(held.path):
                await held.pass_through()
        fault = self._take_fault(request.path)
        file = self.directory / request.path.lstrip("/")
        if self.authorization and request.headers.get("Authorization") != self.authorization:
            response: web.StreamResponse = web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        elif fault and fault.status:
            response = web.Response(status=fault.status)
        elif fault and fault.redirect:
            response = web.Response(status=302, headers={"Location": fault.redirect})
        elif not file.is_file():
            response = web.Response(status=404)
        else:
            return await self._file(request, file.read_bytes(), fault)
        self._note(request, response.status)
        return response

    async def _file(self, request: web.Request, body: bytes, fault: Fault | None) -> web.StreamResponse:
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache", "Accept-Ranges": "bytes" if self.ranges else "none"}
        if request.headers.get("If-None-Match") == etag:
            self._note(request, 304)
            return web.Response(status=304, headers=headers)
        status, start, end = 200, 0, len(body)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if match and self.ranges and request.headers.get("If-Range", etag) == etag:
            start = int(match[1])
            end = min(int(match[2]) + 1, end) if match[2] else end
            if start >= len(body):
                self._note(request, 416)
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
        self._note(request, status)
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = end - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        cut = start + fault.cut_after if fault and fault.cut_after is not None else None
        await self._send(response, memoryview(body)[start : min(end, cut) if cut is not None else end])
        if fault and fault.stall:
            await asyncio.sleep(3600)
        if cut is not None and cut < end and request.transport:
            await asyncio.sleep(0.02)
            request.transport.close()
        return response

    async def _send(self, response: web.StreamResponse, body: memoryview) -> None:
        if not self.rate:
            await response.write(body)
            return
        for begin in range(0, len(body), _PIECE):
            piece = body[begin : begin + _PIECE]
            now = asyncio.get_running_loop().time()
            self._free = max(now, self._free) + len(piece) / self.rate
            await asyncio.sleep(self._free - now)
            await response.write(piece)

    def _note(self, request: web.Request, status: int) -> None:
        self.requests.append(Seen(request.path, dict(request.headers), status))


@contextlib.contextmanager
def in_a_thread(server: ChannelServer) -> Iterator[ChannelServer]:
    """Let `server` answer from a thread with its own event loop while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield server
    finally:
        for held in server.holds:
            held.released.set()
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
