"""What else happens at the stages of a job, for kinds of jobs that are more than a key that is made."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from builder.queue.job import Job
from storage.events.outbox import Record

TakeTurn = Callable[[Job], contextlib.AbstractAsyncContextManager[None]]


def take_at_once(job: Job) -> contextlib.AbstractAsyncContextManager[None]:
    return contextlib.nullcontext()


def begin_silently(job: Job) -> Record[None] | None:
    return None


async def know_nothing(job: Job) -> str | None:
    return None


def note_nothing(job: Job) -> None:
    """Nobody needs to know that it has ended."""


def find_no_room() -> bool:
    return False


@dataclass(frozen=True)
class Hooks:
    turn: TakeTurn = take_at_once
    """A job is run in a turn, and its build stays queued until it has one."""
    known: Callable[[Job], Awaitable[str | None]] = know_nothing
    """The key of the result of a job that has a turn, if there is nothing to be done but to record its end. If it is
    gone by then, recording that raises a ConderyError, and the job is run."""
    begins: Callable[[Job], Record[None] | None] = begin_silently
    """What to record with the beginning of a job's work."""
    ended: Callable[[Job], None] = note_nothing
    """Called once the end of a job is recorded, before anybody is told."""
    make_room: Callable[[], bool] = find_no_room
    """Gives up what is reserved on a full disk, so that the end of a job can be recorded; whether there was anything.
    It blocks briefly."""


NO_HOOKS = Hooks()
