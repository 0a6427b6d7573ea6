"""Bytes arriving for a repository: its quota counts them as they come, before they belong to a blob or a session.

The pending object that they are written to records how many bytes are held for it. The hold is renewed while bytes
come, so that the bytes of a dead process soon stop counting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from storage.background import in_background
from storage.blobs.store import BlobStore
from storage.errors import QuotaExceeded, StorageError
from storage.quotas.room import Room

STEP = 16 << 20
"""Bytes to hold at once if the total size is unknown; each hold is a transaction."""

HOLD_SECONDS = 180.0
RENEW_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Arrival:
    """The object `key` that bytes for `repository` are written to; they are those of the blob `digest`, and come
    in the session `upload`, if these are known.

    They are counted if a quota has `bounded` the repository when they began to come.
    """

    def __init__(
        self, room: Room, repository: str, key: str, digest: str = "", upload: str = "", *, bounded: bool = True
    ) -> None:
        self.key = key
        self._digest = digest
        self._upload = upload
        self._room = room
        self._repository = repository
        self._bounded = bounded
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
                own = (self.key, self._upload)
                await self._room.within(self._repository, lambda: self._hold(size), own)

    async def _hold(self, size: int) -> None:
        await self._room.hold(self._repository, self.key, size, HOLD_SECONDS, self._digest)
        self._held = size

    async def _renew_often(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._renew()

    async def _renew(self) -> None:
        # not while another call is growing the hold, whose size this would set back
        async with self._holding:
            if not self._held:
                return
            try:
                await self._hold(self._held)
            except QuotaExceeded:
                # the hold has expired and others have the room: the next bytes must find room for all of it
                self._held = 0
            except StorageError as error:
                log.warning("cannot renew the hold for arriving bytes", repository=self._repository, reason=str(error))

    @contextlib.asynccontextmanager
    async def keep_renewed(self) -> AsyncIterator[None]:
        if not self._bounded:
            yield
            return
        async with in_background(self._renew_often()):
            yield


@contextlib.asynccontextmanager
async def arriving(
    blobs: BlobStore, room: Room, repository: str, digest: str = "", upload: str = ""
) -> AsyncIterator[Arrival]:
    """Yield an object to write in the block. It is deleted afterwards unless something has it by then."""
    bounded = await room.bounds(repository)
    async with blobs.pending() as key:
        arrival = Arrival(room, repository, key, digest, upload, bounded=bounded)
        async with arrival.keep_renewed():
            yield arrival
