"""Waits for a build by its id alone, whoever works on it."""

from __future__ import annotations

import asyncio

import structlog

from builder.errors import BuildFailed
from builder.queue.ended import read_end
from builder.queue.protocol import CompletedBuild
from builder.queue.watcher import Watcher
from builder.work.claims import OURSELVES, Caller
from storage.background import in_background
from storage.catalog.builds import BuildRow, Builds
from storage.errors import ConderyError

TELL_SECONDS = 2.0
"""How often the owner of a build is told who waits here; it counts them for three times as long."""

log = structlog.get_logger(__name__)


class FollowedBuild:
    """A SubmittedBuild (`builder.queue.protocol`) that this process neither requested nor works on."""

    def __init__(self, row: BuildRow, builds: Builds, watcher: Watcher) -> None:
        self.id = row.id
        self._row: BuildRow | None = row
        """As last seen. It does not change once the build has ended."""
        self._builds = builds
        self._watcher = watcher

    async def wait(self, seconds: float | None, caller: Caller = OURSELVES) -> CompletedBuild | None:
        if self._row is not None and self._row.ended is None:
            async with in_background(self._tell_often(caller)):
                self._row = await self._look(self._row, seconds)
        if self._row is None:
            raise BuildFailed(self.id, "Collected", "this build was deleted; how it ended is unknown")
        if self._row.ended is None:
            return None
        end = read_end(self._row)
        if isinstance(end, BuildFailed):
            raise end
        return end

    async def _tell_often(self, caller: Caller) -> None:
        """Tell the owner of the build that `caller` waits."""
        while True:
            try:
                await self._builds.note_waiting({self.id: caller.name if caller.signed_in else ""})
            except ConderyError as error:
                log.warning("cannot tell who waits for a build", build=self.id, reason=str(error))
            await asyncio.sleep(TELL_SECONDS)

    async def _look(self, row: BuildRow, seconds: float | None) -> BuildRow | None:
        """Wait at most `seconds` for the end of the build. Returns its row, or None if it was deleted."""
        self._watcher.check_open()
        if seconds is not None and seconds <= 0:
            return await self._builds.find(self.id)
        try:
            async with asyncio.timeout(seconds):
                return await self._watcher.until(row, _has_ended)
        except TimeoutError:
            return row


def _has_ended(row: BuildRow) -> bool:
    return row.ended is not None
