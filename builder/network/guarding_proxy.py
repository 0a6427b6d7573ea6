"""A forward proxy on loopback for a client without hooks: rattler's, which is native code.

It does what the other clients do themselves: it looks a name up once, checks the result, and connects to exactly that.
Its users must present a secret that only the solver process is given. It answers 407 to what it refuses, because
rattler's error reveals no other status of a CONNECT. It answers 599 for a host that it cannot reach, and 426 to plain
HTTP for a host that no channel uses over HTTP: rattler follows redirects from https to http.

Each connection carries one request: a GET or HEAD in absolute form (RFC 9112, 3.2.2), or a CONNECT for https.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Self
from urllib.parse import urljoin, urlsplit

import aiohttp
import structlog
from cachetools import TTLCache
from yarl import URL

from builder.network.addresses import AddressGuard, InternalAddress, split_endpoint
from builder.network.look_ups import LookUps
from builder.network.loopback import LoopbackServer
from builder.network.outer_proxy import OuterProxy, find_outer_proxy

MOST_CONNECTIONS = 2000
"""For all processes of one solver together. One of them may have half, so that the next ones get some too."""
_FILES = 16
"""Descriptors that this process may have per connection here. Each connection takes two, and there are two solvers."""
HEAD_BYTES = 64 << 10
"""Bytes of the largest head of a request or an answer."""

HEAD_SECONDS = 10.0
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 100.0
"""Seconds after which an idle connection is closed. rattler keeps unused ones for 90."""

_CHUNK = 256 << 10
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^\[\]:/?#@\s]+)):(?P<port>[0-9]{1,5})")
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade", "te"})

REFUSED = 407
PLAIN = 426
UNREACHABLE = 599
OWN = frozenset({REFUSED, PLAIN, UNREACHABLE})
"""Statuses that only this proxy sends: an upstream's are passed on as 502."""

log = structlog.get_logger(__name__)


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


@dataclass(frozen=True)
class _Head:
    """The head of a request."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: bytes) -> Self:
        first, *lines = text.decode("latin-1").split("\r\n")[:-2]
        method, target, version = first.split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(version)
        pairs = [line.split(":", 1) for line in lines]
        return cls(method, target, tuple((name.strip().lower(), value.strip()) for name, value in pairs))

    def header(self, name: str) -> str:
        return next((value for each, value in self.headers if each == name), "")


@dataclass(frozen=True)
class _Upstream:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class GuardingProxy(LoopbackServer):
    """Serves at `url` while it is entered, to whoever has that URL. `outer` returns the proxy that it uses itself.

    The hosts in `pinned` are reached only at their ports there: rattler shows a host's login at every port.
    """

    def __init__(
        self,
        guard: AddressGuard,
        outer: OuterProxy = find_outer_proxy,
        pinned: Mapping[str, Collection[int]] = MappingProxyType({}),
    ) -> None:
        super().__init__("condery", HEAD_BYTES, MOST_CONNECTIONS)
        self._guard = guard
        self._pinned = pinned
        self._outer = outer
        self._look_ups: LookUps[list[str]] = LookUps()
        self._plain: set[str] = set()
        self._referred: TTLCache[str, None] = TTLCache(MOST_CONNECTIONS, IDLE_SECONDS)
        """Hosts to which answers passed on here have lately redirected."""

    async def __aenter__(self) -> Self:
        self._most = min(MOST_CONNECTIONS, max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _FILES))
        return await super().__aenter__()

    @property
    def most_each(self) -> int:
        """The number of connections that one process may have."""
        return self._most // 2

    def admit(self, channel: str, internal: Collection[str]) -> None:
        """Admit a channel's URL from now on, over HTTP too if it says so, and the internal hosts that it may refer
        to."""
        self._guard.admit(internal)
        if channel.startswith("http://"):
            self._plain.update([split_endpoint(channel), *internal])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except _Refused as refused:
            with contextlib.suppress(OSError):
                writer.write(_write_status(refused.status))
                await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            # the client went away, or the upstream does not speak HTTP
            log.debug("proxied connection ended", reason=str(error) or type(error).__name__)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_SECONDS):
            head = _Head.parse(await reader.readuntil(b"\r\n\r\n"))
        self._authorize(head)
        if head.method == "CONNECT":
            await self._tunnel(head, reader, writer)
        elif head.method in ("GET", "HEAD") and head.target.startswith("http://"):
            await self._forward(head, reader, writer)
        else:
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED)

    def _authorize(self, head: _Head) -> None:
        """Raises _Refused. A request over HTTP after a redirect comes without the secret, which rattler drops."""
        shown = head.header("proxy-authorization")
        if self.is_authorized(shown.encode()):
            return
        if shown or head.method == "CONNECT":
            raise _Refused(REFUSED)
        if split_endpoint(head.target) not in self._referred:
            raise _Refused(PLAIN)

    async def _tunnel(self, head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = _split_authority(head.target)
        async with _closing(await self._connect("https", host, port)) as upstream:
            writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
            moves = _Moves()
            await _wait_for_one(
                _copy(reader, upstream.writer, moves), _copy(upstream.reader, writer, moves), moves.stop()
            )

    async def _forward(self, head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(head.target)
        if parts.username is not None or not parts.hostname:
            raise _Refused(HTTPStatus.BAD_REQUEST)
        if split_endpoint(head.target) not in self._plain:
            raise _Refused(PLAIN)
        proxy = self._outer(head.target)
        async with _closing(await self._connect("http", parts.hostname, parts.port or 80)) as upstream:
            target = head.target if proxy else parts._replace(scheme="", netloc="").geturl() or "/"
            headers = [(name, value) for name, value in head.headers if name not in _HOP_BY_HOP]
            if proxy and proxy[1]:
                headers.append(("proxy-authorization", proxy[1].encode()))
            lines = [f"{head.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
            upstream.writer.write("\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1"))
            moves = _Moves()
            answer = self._pass_answer(head.target, upstream.reader, writer, moves)
            await _wait_for_one(answer, _watch_end(reader), moves.stop())

    async def _pass_answer(
        self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moves: _Moves
    ) -> None:
        """Pass on the answer to `url`, as the last on its connection."""
        status = 100
        while status < HTTPStatus.OK:
            first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
            status = int(first.split(" ")[1][:3])
        fields = [(line.partition(":")[0].strip().lower(), line) for line in lines]
        for name, line in fields:
            if name == "location":
                self._referred[split_endpoint(urljoin(url, line.partition(":")[2].strip()))] = None
        if status in OWN:
            first = "HTTP/1.1 502 Bad Gateway"
        kept = [line for name, line in fields if name not in _HOP_BY_HOP]
        writer.write("\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1"))
        await _copy(reader, writer, moves)

    async def _connect(self, scheme: str, host: str, port: int) -> _Upstream:
        """Connect to a host, if that is allowed. Raises _Refused."""
        if port not in self._pinned.get(host.lower().rstrip("."), (port,)):
            log.warning("channel refers to another port of a host that gets credentials", host=host, port=port)
            raise _Refused(REFUSED)
        proxy = self._outer(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if proxy is not None:
                    # it looks the name up by itself
                    with contextlib.suppress(OSError):
                        await self._look_up(host, port)
                    return await _connect_by_proxy(proxy[0], proxy[1], host, port, tunnel=scheme == "https")
                return await _connect_first(await self._look_up(host, port), port)
        except InternalAddress:
            log.warning("channel refers to an internal address", host=host, port=port)
            raise _Refused(REFUSED) from None
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            raise _Refused(UNREACHABLE) from None

    async def _look_up(self, host: str, port: int) -> list[str]:
        return await self._look_ups.do((host, port), lambda: self._guard.look_up(host, port))


def _split_authority(text: str) -> tuple[str, int]:
    found = _AUTHORITY.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 1 << 16:
        raise _Refused(HTTPStatus.BAD_REQUEST)
    return found["v6"] or found["name"], int(found["port"])


async def _connect_first(addresses: list[str], port: int) -> _Upstream:
    """Connect to the first address that accepts. Raises OSError."""
    failure = OSError("no address")
    for address in addresses:
        try:
            return _Upstream(*await asyncio.open_connection(address, port, limit=HEAD_BYTES))
        except OSError as error:
            failure = error
    raise failure


async def _connect_by_proxy(
    proxy: URL, authorization: aiohttp.BasicAuth | None, host: str, port: int, *, tunnel: bool
) -> _Upstream:
    """Connect to the environment's proxy or, with `tunnel`, through it."""
    context = ssl.create_default_context() if proxy.scheme == "https" else None
    upstream = _Upstream(*await asyncio.open_connection(proxy.host, proxy.port, ssl=context, limit=HEAD_BYTES))
    if tunnel:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        own = f"proxy-authorization: {authorization.encode()}\r\n" if authorization else ""
        upstream.writer.write(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{own}\r\n".encode())
        answer = await upstream.reader.readuntil(b"\r\n\r\n")
        if not re.match(rb"HTTP/1\.[01] 2", answer):
            upstream.writer.close()
            raise OSError("the proxy refuses")
    return upstream


@contextlib.asynccontextmanager
async def _closing(upstream: _Upstream) -> AsyncIterator[_Upstream]:
    try:
        yield upstream
    finally:
        upstream.writer.close()


class _Moves:
    """When data last moved on a connection, in either direction."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def note(self) -> None:
        self._last = time.monotonic()

    async def stop(self) -> None:
        """Return when nothing has moved for IDLE_SECONDS."""
        rest = IDLE_SECONDS
        while rest > 0:
            await asyncio.sleep(rest)
            rest = self._last + IDLE_SECONDS - time.monotonic()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moves: _Moves) -> None:
    while data := await reader.read(_CHUNK):
        moves.note()
        writer.write(data)
        await writer.drain()
        moves.note()


async def _watch_end(reader: asyncio.StreamReader) -> None:
    """Return when the client hangs up. Whatever it sends after its one request is ignored."""
    while await reader.read(_CHUNK):
        pass


async def _wait_for_one(*ways: Awaitable[None]) -> None:
    """Wait for the first to end, cancel the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _write_status(status: int) -> bytes:
    return f"HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
