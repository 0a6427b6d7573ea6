"""Waits for a build by its row alone, whoever works on it.

A process that waits for another's build reads its row every POLL_SECONDS, by an index. SQLite does not notify other
processes of changes, and PostgreSQL's notifications are lost while a connection is down, so polling would be needed
anyway.
"""

from __future__ import annotations

import asyncio
import time
from math import inf

from builder.errors import BuildFailed
from builder.queue.ended import read_end
from builder.queue.protocol import CompletedBuild
from builder.work.claims import OURSELVES, Caller
from storage.catalog.builds import Builds
from storage.errors import ServerStopping

POLL_SECONDS = 0.2


class FollowedBuild:
    """A SubmittedBuild (`builder.queue.protocol`) that this process neither requested nor works on."""

    def __init__(self, build_id: str, builds: Builds, closing: asyncio.Event) -> None:
        self.id = build_id
        self._builds = builds
        self._closing = closing

    async def wait(self, seconds: float | None, caller: Caller = OURSELVES) -> CompletedBuild | None:
        until = time.monotonic() + (inf if seconds is None else seconds)
        while not self._closing.is_set():
            row = await self._builds.find(self.id)
            if row is None:
                raise BuildFailed(self.id, "Collected", "this build was deleted; how it ended is unknown")
            if row.ended is not None:
                end = read_end(row)
                if isinstance(end, BuildFailed):
                    raise end
                return end
            left = until - time.monotonic()
            if left <= 0:
                return None
            await asyncio.sleep(min(POLL_SECONDS, left))
        raise ServerStopping
