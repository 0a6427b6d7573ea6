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
    build was given up and nobody else waits. It is done on behalf of all who wait for it: whoever joins what another
    caller began does not wait in that one's place.
    """

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    async def do(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        flight = self._flights.get(key)
        waiter = current_claim()
        if flight is None:
            with on_behalf_of(waiter.part()) as claim:
                flight = _Flight(claim, asyncio.ensure_future(_call(compute)))
            self._flights[key] = flight
            flight.work.add_done_callback(lambda _: self._flights.pop(key, None))
        try:
            with flight.claim.joined(waiter):
                return await asyncio.shield(flight.work)
        finally:
            if waiter.origin.is_given_up and not flight.claim.is_joined:
                flight.work.cancel()

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        flights = [flight.work for flight in self._flights.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)


async def _call(compute: Callable[[], Awaitable[V]]) -> V:
    return await compute()
