"""What a queue of builds guarantees, whichever engine runs them: inside the server, or on many machines.

A build is a row (`storage.catalog.builds`), and two processes need to share nothing else: whoever asks for a key that
somebody is already making waits for that row to end. So a process can wait for a build that it did not start, a build
is taken over when its owner dies, and it is found again after a restart.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from builder.errors import BuildFailed
from builder.queue.job import Job
from builder.work.claims import OURSELVES, Begun, Caller, untold


class Priority(IntEnum):
    """More urgent builds get their turns first, whoever else waits."""

    LOW = -1
    """For builds that nobody asked for just now, such as the early renewal of an environment."""
    NORMAL = 0
    HIGH = 1
    """For builds that an administrator moved to the front."""


@dataclass(frozen=True)
class CompletedBuild:
    """A build whose result is stored."""

    id: str
    made: str | None
    """The key of the image or file. None if a process of an older version made it; then its name finds it."""


class SubmittedBuild(Protocol):
    """A build that was requested, possibly by others as well."""

    @property
    def id(self) -> str:
        """The id of its row, which `submit` inserted, or found because another process makes the same."""

    async def wait(self, seconds: float | None, caller: Caller = OURSELVES) -> CompletedBuild | None:
        """Return how it ended, or None if it has not after `seconds`. If `seconds` is None, wait as long as it takes.

        Meanwhile `caller` counts as waiting. Cancelling one caller does not disturb the build. May be called again, and
        by many at once. Raises BuildFailed with the recorded reason, BuildCanceled, and ServerStopping when the queue
        closes; then the build goes on elsewhere or later.
        """


class BuildQueue(Protocol):
    """Runs each job once at a time, across all processes that share the database."""

    async def start(self) -> None:
        """Resume the builds that a dead or closed process left, the most urgent first: once now, and from now on within
        seconds of when they can be told from builds that somebody works on."""

    async def close(self) -> None:
        """Stop. Unfinished builds stay in the database, and the next process resumes them at once."""

    async def submit(
        self,
        job: Job,
        caller: Caller = OURSELVES,
        priority: Priority = Priority.NORMAL,
        begun: Begun = untold,
    ) -> SubmittedBuild:
        """Return the unfinished build of the job, or a new one. A less urgent one that runs is raised to `priority`.

        `begun` is called if it is a new one, whichever process asks, also when this caller is gone by then.

        Raises TooManyBuilds if this caller, or all callers together, have as many builds under way as the settings
        allow, unless the job's build already runs.
        """

    def holding(self, caller: Caller) -> contextlib.AbstractContextManager[None]:
        """Count as a build of `caller`, while the block runs, what is none but takes as much, such as a dry solve.

        Entering it raises TooManyBuilds as `submit` does.
        """

    async def follow(self, build_id: str) -> SubmittedBuild | None:
        """Find a build of any process, unfinished or ended, to wait for.

        Returns None if there is none. Starts nothing.
        """

    async def cancel(self, build_id: str, reason: str) -> bool:
        """End an unfinished build of any process as canceled. Returns False if there is none.

        Those who wait get `reason`, a whole sentence. It is remembered like a failure; otherwise clients that retry at
        once would start the build again. Its work stops within seconds, except what other builds need too.
        """

    async def set_priority(self, build_id: str, priority: Priority) -> bool:
        """Change the urgency of an unfinished build of any process, within seconds. Returns False if there is none."""

    async def find_remembered_failure(self, job: Job) -> BuildFailed | None:
        """Return why the job's last build failed or was canceled, while the settings remember it; None while one
        runs."""
