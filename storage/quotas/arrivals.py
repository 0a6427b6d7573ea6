"""Bytes on their way into a repository: counted by its quota as they come, before they are a blob or part of a session.

The pending object that they are written to says how many bytes are held for it. That is renewed while they come, so
that those of a process which died are not counted for long.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from storage.blobs.store import BlobStore
from storage.errors import QuotaExceeded, StorageError
from storage.quotas.room import Room

STEP = 16 << 20
"""Bytes that are held at once where nobody says how many will come: a transaction each."""

HOLD_SECONDS = 180.0
RENEW_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Arrival:
    """The object `key`, to which bytes for `repository` are written: of the blob `digest`, where that is known."""

    def __init__(self, room: Room, repository: str, key: str, digest: str = "") -> None:
        self.key = key
        self._digest = digest
        self._room = room
        self._repository = repository
        self._bounded = room.bounds(repository)
        self._held = 0
        self._holding = asyncio.Lock()

    async def expect(self, size: int) -> None:
        """Hold room for `size` bytes in all; raises QuotaExceeded."""
        if not self._bounded or size <= self._held:
            return
        async with self._holding:
            try:
                await self._hold(size if not self._held else max(size, self._held + STEP))
            except QuotaExceeded:
                await self._room.within(self._repository, lambda: self._hold(size))

    async def _hold(self, size: int) -> None:
        await self._room.hold(self._repository, self.key, size, HOLD_SECONDS, self._digest)
        self._held = size

    async def _renew_often(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._renew()

    async def _renew(self) -> None:
        # not beside one that is growing, whose size this would set back
        async with self._holding:
            if not self._held:
                return
            try:
                await self._hold(self._held)
            except QuotaExceeded:
                # it had run out, and others have the room: what comes next has to find some for all of it
                self._held = 0
            except StorageError as error:
                log.warning("room for bytes on their way not renewed", repository=self._repository, reason=str(error))

    @contextlib.asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        if not self._bounded:
            yield
            return
        task = asyncio.create_task(self._renew_often())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def arriving(blobs: BlobStore, room: Room, repository: str, digest: str = "") -> AsyncIterator[Arrival]:
    """An object to be written in the block; it is deleted afterwards unless something has it by then."""
    async with blobs.pending() as key:
        arrival = Arrival(room, repository, key, digest)
        async with arrival.renewed():
            yield arrival
