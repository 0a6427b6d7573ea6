"""One computation for any number of waiters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from builder.work.claims import Claim, current_claim, on_behalf_of

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class _Flight(Generic[V]):
    claim: Claim
    work: asyncio.Task[V]


class SingleFlight(Generic[K, V]):
    """Shares a running computation between everybody who asks for its key; keeps nothing once it has ended.

    A waiter that is cancelled leaves the computation running for the others, and for whoever asks next, unless its
    build was given up and nobody else waits: then it is cancelled, and whoever asks next begins anew, perhaps while the
    old one clears up. It is done on behalf of all who wait for it: whoever joins what another
    caller began does not wait in that one's place.
    """

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}
        self._works: set[asyncio.Task[V]] = set()
        """Those of the flights, and those that were cancelled and have not cleared up yet."""

    async def do(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        flight = self._flights.get(key)
        waiter = current_claim()
        if flight is None:
            with on_behalf_of(waiter.part()) as claim:
                flight = _Flight(claim, asyncio.ensure_future(_call(compute)))
            self._begin(key, flight)
        try:
            with flight.claim.joined(waiter):
                return await asyncio.shield(flight.work)
        finally:
            if waiter.origin.is_given_up and not flight.claim.is_joined:
                # it may take seconds to clear up, and whoever asks meanwhile is not to be cancelled with it
                self._forget(key, flight)
                flight.work.cancel()

    def _begin(self, key: K, flight: _Flight[V]) -> None:
        self._flights[key] = flight
        self._works.add(flight.work)
        flight.work.add_done_callback(self._works.discard)
        flight.work.add_done_callback(lambda _: self._forget(key, flight))

    def _forget(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        # not those that clear up already: a second cancellation would interrupt that
        for flight in self._flights.values():
            flight.work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)


async def _call(compute: Callable[[], Awaitable[V]]) -> V:
    return await compute()
