"""How many connections the server has open, and whose give way when there are too many.

A connection that waits for a request costs its owner nothing. So when there are too many, those that wait are closed
first, the oldest of whoever has the most. Where all are at work, a few more are let in only to be told so, and to ask
for health; beyond those a new connection is cut at once. The soft limit of open files is raised to the hard one, and
the bound stays well below it: a server that cannot open a file any more cannot answer anybody.
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
"""Descriptors that are not for connections: the database, pipes to workers, files that are read and written, and two
for each connection through the proxies of two solvers."""

FILES_EACH = 3
"""Descriptors that one connection takes at most: its socket, a copy of that, a file."""

FIRST_SECONDS = 0.25
"""A connection that was opened so recently may have a request on its way."""

SPARE = 32
"""Connections beyond the bound that may ask for health, and are told to come again otherwise."""

SPARE_OF_ONE = 4
"""Of those, for one address that has more than its own bound."""

SEARCHED = 16
"""Addresses that are searched for a connection that waits, those with the most first."""

TOLD_EVERY = 60.0
"""Seconds between two log lines about connections that were closed or cut."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most connections of a process: of all clients, and of one client's address (of a /64 network for IPv6)."""

    total: int
    per_address: int


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def bounds_for(files: int, total: int, per_address: int) -> Bounds:
    """The bounds that are set, as far as a process with `files` descriptors can keep them."""
    possible = max((files - min(OWN_FILES, files // 2)) // FILES_EACH, 8)
    bounded = min(total, possible)
    return Bounds(bounded, min(per_address, bounded))


class Connections:
    """Watches the connections of one aiohttp server.

    `trusted` are networks of proxies: all their clients come from one address, so that has no bound of its own.
    """

    def __init__(self, trusted: Sequence[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = Bounds(sys.maxsize, sys.maxsize)
        self._trusted = tuple(map(network, trusted))
        self._clock = clock
        self._open: dict[RequestHandler, str] = {}
        self._of_address: dict[str, dict[RequestHandler, float]] = {}
        """With when each was opened, the oldest first."""
        self._surplus: set[RequestHandler] = set()
        self._closed = self._cut = 0
        self._told_at = -TOLD_EVERY

    def watch(self, server: web.Server, bounds: Bounds) -> None:
        """Be told of every connection that `server` gets and loses from now on, and keep it within `bounds`."""
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
        """Whether the request came by a connection beyond the bound, which may only ask for health."""
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
        """The addresses with the most connections, the one with most of all first."""
        return heapq.nlargest(count, self._of_address, key=lambda address: len(self._of_address[address]))

    def _make_room(self, new: RequestHandler, addresses: Sequence[str], *, spare: bool) -> None:
        """Close one that waits, of the first of the addresses that has one; else let `new` in as a spare, or cut it."""
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
        """Of those that were opened `seconds` ago or earlier."""
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
    return handler._current_request is None and not handler._messages  # aiohttp tells it nowhere else
