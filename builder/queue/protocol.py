"""What a queue of builds promises, whichever engine runs them: in the server itself, or on many machines.

A build is a row (`storage.catalog.builds`), and that is all that two processes need to share: whoever asks for a key
that somebody makes already waits for that row to end. So a build can be waited for by a process that did not begin it,
is taken over when its owner dies, and is found again after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from builder.errors import BuildFailed
from builder.queue.job import Job
from builder.work.claims import OURSELVES, Caller


class Priority(IntEnum):
    """What is more urgent gets its turns first, whoever else waits."""

    LOW = -1
    """What nobody asked for now, such as renewing an environment in time."""
    NORMAL = 0
    HIGH = 1
    """What an administrator put in front."""


@dataclass(frozen=True)
class CompletedBuild:
    """A build whose result is stored."""

    id: str
    made: str | None
    """The key of the image or file. None when a process of an older version made it: it is found by its name."""


class SubmittedBuild(Protocol):
    """A build that was asked for, by whomever else as well."""

    @property
    def id(self) -> str:
        """Of its row, which `submit` has inserted, or found where another process makes the same."""

    async def wait(self, seconds: float | None, caller: Caller = OURSELVES) -> CompletedBuild | None:
        """How it ended, or None when it has not after `seconds`; with None for them, however long it takes.

        `caller` counts as somebody who waits meanwhile. One that is cancelled does not disturb the build. May be
        called again, and by many at once. Raises BuildFailed with the recorded reason, BuildCanceled, and
        ServerStopping when the queue is closed: the build goes on elsewhere or later.
        """


class BuildQueue(Protocol):
    """Runs each job once at a time, over all processes that share the database."""

    async def start(self) -> None:
        """Resume the builds that a dead process left, or one that was closed, the most urgent first: now, and from now
        on within seconds of when they can be told from those that somebody works on.
        """

    async def close(self) -> None:
        """Stop. What is unfinished stays in the database, and whoever comes next resumes it at once."""

    async def submit(
        self, job: Job, caller: Caller = OURSELVES, priority: Priority = Priority.NORMAL
    ) -> SubmittedBuild:
        """The unfinished build of the job, or a new one. One that runs becomes as urgent as `priority`, if it was less.

        Raises TooManyBuilds when the caller, or all of them, have as many under way as the settings allow, unless the
        job's build runs already.
        """

    async def follow(self, build_id: str) -> SubmittedBuild | None:
        """A build of whichever process, unfinished or ended, to wait for; None when there is none. Begins nothing."""

    async def cancel(self, build_id: str, reason: str) -> bool:
        """End an unfinished build, of whichever process, as canceled; False when there is none.

        Those who wait get `reason`, a whole sentence. It is remembered like a failure, or clients that try again at
        once would begin it anew. Where it runs it is stopped within seconds, except what other builds need as well.
        """

    async def set_priority(self, build_id: str, priority: Priority) -> bool:
        """Make an unfinished build, of whichever process, more or less urgent within seconds; False for none."""

    async def remembered_failure(self, job: Job) -> BuildFailed | None:
        """Why the job's last build failed or was canceled, for as long as the settings say; None while one runs."""
