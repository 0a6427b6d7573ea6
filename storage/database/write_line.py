"""The writers of this process, one after another.

SQLite has one write lock, and whoever waits for it polls with growing pauses: the longer somebody has waited, the later
they look. Meanwhile they hold one of few connections, which readers need too. So a process lets one writer at a time to
the database, in the order in which they came, except that some stand behind others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar

from storage.errors import StorageBusy

PASSES = 3
"""How many writers in a row go before the first of those who stand behind."""
RETRY_AFTER = 5

_BEHIND: ContextVar[Callable[[], bool]] = ContextVar("behind", default=lambda: False)


@contextlib.contextmanager
def standing_behind(when: Callable[[], bool]) -> Iterator[None]:
    """What is written in this context, and by tasks started in it, stands behind other writers if `when` says so."""
    token = _BEHIND.set(when)
    try:
        yield
    finally:
        _BEHIND.reset(token)


class WriteLine:
    """Whose turn it is to write. It belongs to one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._taken = False
        self._ahead: deque[asyncio.Future[None]] = deque()
        self._behind: deque[asyncio.Future[None]] = deque()
        self._passed = 0
        """Turns since the last of those who stand behind, as long as there are any."""

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises StorageBusy after `seconds` in the line."""
        if self._taken:
            await self._wait(self._behind if _BEHIND.get()() else self._ahead)
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, line: deque[asyncio.Future[None]]) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(place)
        try:
            async with asyncio.timeout(self._seconds):
                await place
        except (TimeoutError, asyncio.CancelledError) as error:
            if place.cancelled():
                # whoever had the turn may have ended since, and then they passed over this place
                with contextlib.suppress(ValueError):
                    line.remove(place)
            else:
                # the turn came at the same moment
                self._pass_on()
            if isinstance(error, TimeoutError):
                raise StorageBusy("too many writers wait for the database", RETRY_AFTER) from None
            raise

    def _pass_on(self) -> None:
        while place := self._next():
            # a place is cancelled at once, and whoever had it notices a moment later
            if not place.done():
                place.set_result(None)
                return
        self._taken = False

    def _next(self) -> asyncio.Future[None] | None:
        if self._behind and (not self._ahead or self._passed >= PASSES):
            self._passed = 0
            return self._behind.popleft()
        if self._ahead:
            self._passed = self._passed + 1 if self._behind else 0
            return self._ahead.popleft()
        return None
