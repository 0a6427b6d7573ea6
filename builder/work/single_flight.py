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
    """Shares a running computation among all who ask for its key. Nothing is kept once it has ended.

    Cancelling a waiter leaves the computation running for the others, and for whoever asks next. Only if the waiter's
    build was given up and nobody else waits is it cancelled; whoever asks next then starts a new one, perhaps while the
    old one cleans up. The work is done on behalf of all who wait for it: whoever joins another caller's computation
    does not wait in that caller's place.
    """

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}
        self._works: set[asyncio.Task[V]] = set()
        """The computations of the flights, and cancelled ones that have not cleaned up yet."""

    async def do(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        flight = self._flights.get(key)
        waiter = current_claim()
        if flight is None:
            with on_behalf_of(waiter.make_part()) as claim:
                flight = _Flight(claim, asyncio.ensure_future(_call(compute)))
            self._begin(key, flight)
        try:
            with flight.claim.joined(waiter):
                return await asyncio.shield(flight.work)
        finally:
            if waiter.origin.is_given_up and not flight.claim.is_joined:
                # it may take seconds to clean up, and whoever asks meanwhile must not be cancelled with it
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
        """Cancel what still runs, and wait for it."""
        # not those that already clean up: a second cancellation would interrupt them
        for flight in self._flights.values():
            flight.work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)


async def _call(compute: Callable[[], Awaitable[V]]) -> V:
    return await compute()
