"""A build, as seen by those in this process who wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from builder.queue.job import Job
from builder.queue.protocol import CompletedBuild
from builder.work.claims import OURSELVES, Begun, Caller, Claim, untold
from storage.errors import ConderyError


class Flight:
    """A SubmittedBuild (`builder.queue.protocol`) that runs, here or elsewhere."""

    def __init__(self, job: Job, claim: Claim, begun: Begun = untold) -> None:
        self.job = job
        self.claim = claim
        self.begun = begun
        """To be called once there is a row of its own."""
        self.id = secrets.token_hex(6)
        self.is_ours = False
        """Whether this process works on it, rather than waiting for another one."""
        self.task: asyncio.Task[None] | None = None
        self._end: CompletedBuild | ConderyError | None = None
        self._ended = asyncio.Event()
        self._has_row = asyncio.Event()

    @property
    def is_followed(self) -> bool:
        """Whether it waits for the build of another process."""
        return self._has_row.is_set() and not self.is_ours

    def find_waiter(self) -> str | None:
        """Who waits in this process, as another one is told: somebody signed in, or else an empty text for anybody."""
        waiting = self.claim.list_waiting()
        return min((caller.name for caller in waiting if caller.signed_in), default="" if waiting else None)

    async def wait_for_row(self) -> None:
        """Wait until `id` names a row, or the build has ended without one."""
        await self._has_row.wait()

    def adopt_row(self, build_id: str) -> None:
        """Take the id of the row that was inserted, or found as another process's row of the same key."""
        self.id = build_id
        self._has_row.set()

    async def wait(self, seconds: float | None, caller: Caller = OURSELVES) -> CompletedBuild | None:
        with self.claim.waited_for(caller), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        if isinstance(self._end, ConderyError):
            raise self._end.for_another() from self._end.__cause__
        return self._end

    def end(self, end: CompletedBuild | ConderyError) -> None:
        """End the build. Only the first end counts."""
        self._end = self._end or end
        self._has_row.set()
        self._ended.set()

    def stop(self, end: CompletedBuild | ConderyError) -> None:
        """End the build for those who wait, and stop working on it."""
        self.end(end)
        self.claim.give_up()
        if self.task:
            self.task.cancel()
