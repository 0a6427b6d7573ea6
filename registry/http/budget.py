"""The memory for all bodies of pushes together: each takes its share before it is read, or must be sent again."""

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
"""One client gets at most the total divided by this, so that its stalled pushes leave room for others."""


class UploadBudget:
    """A number of bytes of memory. A body that gets no share waits for PATIENCE seconds; there is no queue."""

    def __init__(self, total: int, patience: float = PATIENCE) -> None:
        self._total = total
        self._patience = patience
        self._taken = 0
        self._of_client: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def take(self, client: str, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes for `client` while the block runs; raises StorageBusy."""
        # a body larger than one client's share is accepted too, one at a time
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
            raise StorageBusy("too many pushes are running", RETRY_AFTER) from None
