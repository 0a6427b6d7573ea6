"""Waiting for a build by its row alone, whoever works on it.

Whoever waits for another process's build looks at its row every POLL_SECONDS, which is one read by an index. SQLite
tells other processes of no change, and a notification of PostgreSQL is lost while its connection is, so that they would
have to look all the same.
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
    """A SubmittedBuild (`builder.queue.protocol`) that this process neither asked for nor works on."""

    def __init__(self, build_id: str, builds: Builds, closing: asyncio.Event) -> None:
        self.id = build_id
        self._builds = builds
        self._closing = closing

    async def wait(self, seconds: float | None, caller: Caller = OURSELVES) -> CompletedBuild | None:
        until = time.monotonic() + (inf if seconds is None else seconds)
        while not self._closing.is_set():
            row = await self._builds.find(self.id)
            if row is None:
                raise BuildFailed(self.id, "Collected", "this build was deleted, and how it ended is not known")
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
