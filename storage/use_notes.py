"""Records of recent use, written now and then; no request waits for one or fails with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog
from cachetools import TTLCache

from storage.errors import StorageError

log = structlog.get_logger(__name__)

K = TypeVar("K")

MOST_NOTED = 10_000
CLOSE_SECONDS = 5.0


class UseNotes(Generic[K]):
    """Calls `write` once per key and `seconds`; a write that failed is tried again at the next use.

    A failed write is logged as `event`.
    """

    def __init__(self, write: Callable[[K], Awaitable[None]], seconds: float, event: str) -> None:
        self._write = write
        self._event = event
        self._noted: TTLCache[K, None] = TTLCache(MOST_NOTED, seconds)
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, key: K, /, **fields: str) -> None:
        """Start to record a use of `key`; `fields` identify it in the log."""
        if key in self._noted:
            return
        self._noted[key] = None
        task = asyncio.create_task(self._try_write(key, fields))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _try_write(self, key: K, fields: dict[str, str]) -> None:
        try:
            await self._write(key)
        except StorageError as error:
            self._noted.pop(key, None)
            log.warning(self._event, **fields, reason=str(error))

    async def close(self) -> None:
        """Wait for the writes that have begun, for CLOSE_SECONDS at most."""
        if self._writing:
            _, late = await asyncio.wait(self._writing, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
