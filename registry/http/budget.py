"""The memory that bodies of pushes may take together: each takes its part before it is read, or has to come again."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from storage.errors import StorageBusy

PATIENCE = 10.0
"""Seconds that a body waits for others to end."""

RETRY_AFTER = 5

ONE_CLIENT = 2
"""One client gets at most the total divided by this, so that its stalled pushes leave room for everybody else's."""


class UploadBudget:
    """Bytes of memory. Whoever cannot have its part waits, in no order, for PATIENCE seconds."""

    def __init__(self, total: int, patience: float = PATIENCE) -> None:
        self._total = total
        self._patience = patience
        self._taken = 0
        self._of_client: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def take(self, client: str, size: int) -> AsyncIterator[None]:
        """`size` bytes for `client` while the block runs; raises StorageBusy."""
        # a single body that is larger than a share is still taken, one at a time
        size = min(size, self._total // ONE_CLIENT)
        if not self._fits(client, size):
            await self._wait(client, size)
        self._taken += size
        self._of_client[client] += size
        try:
            yield
        finally:
            self._taken -= size
            self._of_client[client] -= size
            if not self._of_client[client]:
                del self._of_client[client]
            async with self._changed:
                self._changed.notify_all()

    def _fits(self, client: str, size: int) -> bool:
        return self._taken + size <= self._total and self._of_client[client] + size <= self._total // ONE_CLIENT

    async def _wait(self, client: str, size: int) -> None:
        try:
            async with asyncio.timeout(self._patience), self._changed:
                await self._changed.wait_for(lambda: self._fits(client, size))
        except TimeoutError:
            raise StorageBusy("too many pushes are under way", RETRY_AFTER) from None
