"""How slow a transfer may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TooSlow(Exception):
    """Fewer bytes than required arrived; `came` says how many."""

    def __init__(self, came: int, least: int, seconds: float) -> None:
        super().__init__(
            f"fewer than {least} bytes arrived in {seconds:g} s (settings download_least, download_seconds)"
            if came
            else f"it sent nothing for {seconds:g} s"
        )
        self.came = came


class Pace:
    """Requires at least `least` bytes in every `seconds` of connection time, over any number of connections."""

    def __init__(self, least: int, seconds: float) -> None:
        self._least = least
        self._seconds = seconds
        self._left = seconds
        self._came = 0
        self._limit = asyncio.timeout(None)

    @asynccontextmanager
    async def enforce(self) -> AsyncIterator[None]:
        """Measure while this context is open. Raises TooSlow out of it, and the next one starts from zero."""
        self._limit = limit = asyncio.timeout(self._left)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise TooSlow(self._came, self._least, self._seconds) from None
        finally:
            if limit.expired():
                self._left, self._came = self._seconds, 0
            else:
                self._left = max(0.0, (limit.when() or 0.0) - asyncio.get_running_loop().time())

    def note(self, count: int) -> None:
        """Note that `count` bytes arrived."""
        self._came += count
        if self._came >= self._least:
            self._came = 0
            self._limit.reschedule(asyncio.get_running_loop().time() + self._seconds)
