"""Limits the open connections, and decides which are closed if there are too many.

Closing a connection that waits for a request costs its owner nothing. So if there are too many, waiting ones are closed
first, the oldest of the client that has the most. If all are busy, a few more are accepted, only to be told so or to
check health; beyond those a new connection is cut at once. The soft limit of open files is raised to the hard one, and
the bound stays well below it: a server that cannot open another file cannot answer anybody.
"""

from __future__ import annotations

import heapq
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from builder.network.guarding_proxy import MOST_CONNECTIONS
from registry.peers.networks import client_of, is_in, network, plain_address

OWN_FILES = 512 + 2 * 2 * MOST_CONNECTIONS
"""Descriptors that are not for connections: the database, pipes to workers, open files, and two for each connection
through the proxies of two solvers."""

FILES_EACH = 3
"""The most descriptors for one connection: its socket, a copy of that, a file."""

FIRST_SECONDS = 0.25
"""A connection opened this recently may have a request on its way."""

SPARE = 32
"""Connections beyond the bound. They may check health, and get a 503 for everything else."""

SPARE_OF_ONE = 4
"""How many of those may come from one address that exceeds its own bound."""

SEARCHED = 16
"""Addresses to search for a waiting connection, starting with the one that has the most."""

TOLD_EVERY = 60.0
"""Seconds between log lines about closed or cut connections."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most connections of a process, for all clients and for one client address (a /64 network for IPv6)."""

    total: int
    per_address: int


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def bounds_for(files: int, total: int, per_address: int) -> Bounds:
    """The configured bounds, lowered to what a process with `files` descriptors can keep."""
    possible = max((files - min(OWN_FILES, files // 2)) // FILES_EACH, 8)
    bounded = min(total, possible)
    return Bounds(bounded, min(per_address, bounded))


class Connections:
    """Watches the connections of one aiohttp server.

    `trusted` are networks of proxies; these have no bound per address, since many clients share each.
    """

    def __init__(self, trusted: Sequence[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = Bounds(sys.maxsize, sys.maxsize)
        self._trusted = tuple(map(network, trusted))
        self._clock = clock
        self._open: dict[RequestHandler, str] = {}
        self._of_address: dict[str, dict[RequestHandler, float]] = {}
        """The connections of each address with their opening times, the oldest first."""
        self._surplus: set[RequestHandler] = set()
        self._closed = self._cut = 0
        self._told_at = -TOLD_EVERY

    def watch(self, server: web.Server, bounds: Bounds) -> None:
        """Watch every connection that `server` gets and loses from now on, and keep it within `bounds`."""
        self._bounds = bounds
        made, lost = server.connection_made, server.connection_lost

        def connection_made(handler: RequestHandler, transport: object) -> None:
            made(handler, transport)  # type: ignore[arg-type]  # an asyncio.Transport; here only passed on
            self._add(handler)

        def connection_lost(handler: RequestHandler, exc: BaseException | None = None) -> None:
            lost(handler, exc)
            self._remove(handler)

        # aiohttp calls these two for each connection, and its runner makes the server itself, of its own class
        server.connection_made = connection_made  # type: ignore[method-assign]
        server.connection_lost = connection_lost  # type: ignore[method-assign]

    def is_surplus(self, request: web.BaseRequest) -> bool:
        """Whether the request came over a connection beyond the bound, which may only check health."""
        return bool(self._surplus) and request.protocol in self._surplus

    def _add(self, handler: RequestHandler) -> None:
        peer = handler.peername
        host = plain_address(peer[0]) if isinstance(peer, tuple) else ""
        address = client_of(host)
        self._open[handler] = address
        same = self._of_address.setdefault(address, {})
        same[handler] = self._clock()
        if len(same) > self._bounds.per_address and not is_in(host, self._trusted):
            spare = len(self._surplus.intersection(same)) < SPARE_OF_ONE
            self._make_room(handler, [address], spare=spare)
        elif len(self._open) - len(self._surplus) > self._bounds.total:
            self._make_room(handler, self._heaviest(SEARCHED), spare=True)

    def _remove(self, handler: RequestHandler) -> None:
        self._surplus.discard(handler)
        address = self._open.pop(handler, None)
        if address is not None:
            same = self._of_address[address]
            del same[handler]
            if not same:
                del self._of_address[address]

    def _heaviest(self, count: int) -> list[str]:
        """The addresses with the most connections, in descending order."""
        return heapq.nlargest(count, self._of_address, key=lambda address: len(self._of_address[address]))

    def _make_room(self, new: RequestHandler, addresses: Sequence[str], *, spare: bool) -> None:
        """Close a waiting connection of the first address that has one; else accept `new` as a spare, or cut it."""
        idle = self._longest_idle(addresses, FIRST_SECONDS)
        if idle is None and spare and len(self._surplus) < SPARE:
            self._cut += 1
            self._surplus.add(new)
        elif idle := idle or self._longest_idle(addresses, 0):
            self._closed += 1
            self._remove(idle)
            idle.force_close()
        else:
            self._cut += 1
            self._remove(new)
            if new.transport is not None:
                new.transport.abort()
        self._tell()

    def _longest_idle(self, addresses: Sequence[str], seconds: float) -> RequestHandler | None:
        """The longest idle of the connections opened at least `seconds` ago."""
        since = self._clock() - seconds
        for address in addresses:
            for handler, opened in self._of_address[address].items():
                if opened >= since:
                    break
                if is_idle(handler):
                    return handler
        return None

    def _tell(self) -> None:
        now = self._clock()
        if now - self._told_at >= TOLD_EVERY:
            self._told_at = now
            log.warning(
                "too many connections; see max_connections and max_connections_per_address",
                open=len(self._open),
                idle_closed=self._closed,
                refused=self._cut,
                most_of=next(iter(self._heaviest(1)), None),
                bound=self._bounds.total,
                bound_per_address=self._bounds.per_address,
            )
            self._closed = self._cut = 0


def is_idle(handler: RequestHandler) -> bool:
    """Whether the connection waits for a request, or for the rest of a request's head."""
    return handler._current_request is None and not handler._messages  # aiohttp has no public way to ask
