"""The queue of builds: one build for any number of requests, in this process or any other, that survives its server.

A build is a row of the catalog and a task of one process. The row is inserted before the work begins and ended after
the result is stored; a process that meets another's unfinished row waits for it, and takes it over when its owner is
dead. Work is idempotent, so taking over is beginning again with everything cached that was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import structlog

from builder.errors import BuilderError, BuildFailed, TooManyBuilds, WorkerLost
from builder.queue.job import Job
from builder.settings import BuilderSettings
from builder.work.turns import OURSELVES, Caller, Claim, on_behalf_of
from storage.catalog.builds import BuildRow, Builds
from storage.clock import is_within
from storage.errors import ConderyError
from storage.events.outbox import Record
from storage.text import printable

log = structlog.get_logger(__name__)

BEAT_SECONDS = 2.0
LEASE_SECONDS = 15.0
POLL_SECONDS = 0.2
MOST_ATTEMPTS = 5
"""A build that was begun this often, and each time took its process down with it, is given up."""

Run = Callable[[Job, str], Awaitable[None]]
"""Does a job, given the id of its build; the result is in the stores when it returns."""

Tell = Callable[[Job, str, float, BuildFailed | None], Awaitable[Record[None] | None]]
"""What is to be recorded with the end of a build: of a job, by the build's id, after seconds, with its failure."""
_UNRECORDED = "the build failed, and the reason could not be recorded; the server's log has it under the build's id"


async def tell_nobody(job: Job, build_id: str, seconds: float, failure: BuildFailed | None) -> None:
    return None


@dataclass
class Flight:
    """A build that runs, here or elsewhere. `ended` resolves to its failure or None and never raises."""

    build_id: str
    claim: Claim
    ended: asyncio.Task[BuildFailed | None] = field(init=False)


class BuildQueue:
    """Runs jobs with `run`, each key once at a time, and all at once: what they have to wait for are turns.

    Who has too many builds under way is refused another.
    """

    def __init__(self, builds: Builds, run: Run, settings: BuilderSettings, tell: Tell = tell_nobody) -> None:
        self._builds = builds
        self._run = run
        self._tell = tell
        self._settings = settings
        self._owner = owner_of_this_process()
        self._flights: dict[str, Flight] = {}
        self._heart: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin the heartbeat and resume the builds whose owner is dead."""
        self._heart = asyncio.create_task(self._beat())
        for row in await self._builds.unfinished():
            if is_dead(row):
                log.info("build resumed", build=row.id, attempt=row.attempts + 1)
                self.submit(Job.from_json(row.request))

    async def close(self) -> None:
        """Stop; unfinished builds stay in the catalog for whoever comes next."""
        tasks = [flight.ended for flight in self._flights.values()]
        if self._heart:
            tasks.append(self._heart)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def submit(self, job: Job, caller: Caller = OURSELVES) -> Flight:
        """The running build of `job`, begun now, for `caller`, when there is none; raises TooManyBuilds."""
        flight = self._flights.get(job.key)
        if flight is None:
            self._check_room(caller)
            flight = Flight(secrets.token_hex(6), Claim(caller))
            with on_behalf_of(flight.claim):
                flight.ended = asyncio.create_task(self._fly(job, flight))
            self._flights[job.key] = flight
            flight.ended.add_done_callback(lambda _: self._flights.pop(job.key, None))
        return flight

    def _check_room(self, caller: Caller) -> None:
        """What a dead server left is resumed however much it is."""
        if caller == OURSELVES:
            return
        own = sum(flight.claim.first == caller for flight in self._flights.values())
        if own >= self._settings.builds_per_caller:
            raise TooManyBuilds(own, self._settings.builds_per_caller, "builds_per_caller", caller.name)
        if len(self._flights) >= self._settings.builds_at_most:
            raise TooManyBuilds(len(self._flights), self._settings.builds_at_most, "builds_at_most")

    async def remembered_failure(self, job: Job) -> BuildFailed | None:
        """The last failure of `job`, while it is remembered."""
        if job.key in self._flights:
            return None
        row = await self._builds.last(job.key)
        if row is None or row.ended is None or row.error_kind is None:
            return None
        memory = self._settings.transient_failure_memory if row.error_transient else self._settings.failure_memory
        return _failure(row) if is_within(memory, row.ended) else None

    async def _fly(self, job: Job, flight: Flight) -> BuildFailed | None:
        try:
            row = await self._own(job, flight)
            if row.ended is not None:
                return _failure(row) if row.error_kind else None
            return await self._work(job, row)
        except ConderyError as error:
            return BuildFailed(flight.build_id, type(error).__name__, printable(str(error)))
        except Exception as error:
            log.exception("build queue failed", build=flight.build_id)
            return BuildFailed(
                flight.build_id, type(error).__name__, "internal error; the server's log has the details"
            )

    async def _own(self, job: Job, flight: Flight) -> BuildRow:
        """The row of the job's build: ours to work on, or ended by the process that had it."""
        begun = time.time()
        while True:
            row = await self._builds.begin(flight.build_id, job.key, job.to_json(), self._owner)
            if row:
                return row
            other = await self._builds.last(job.key)
            if other is None:
                continue
            flight.build_id = other.id
            if other.ended is not None:
                if is_within(inf, other.ended) and other.ended >= begun:
                    return other
                flight.build_id = secrets.token_hex(6)
                continue
            if is_dead(other) and await self._builds.take(other, self._owner):
                return other
            await asyncio.sleep(POLL_SECONDS)

    async def _work(self, job: Job, row: BuildRow) -> BuildFailed | None:
        started = time.monotonic()
        bound = log.bind(build=row.id, kind=job.kind, specs=job.spec.match_specs())
        try:
            if row.attempts >= MOST_ATTEMPTS:
                raise WorkerLost("building this image, each time it was tried")
            await self._builds.set_building(row.id)
            await self._run(job, row.id)
        except ConderyError as error:
            transient = not isinstance(error, BuilderError) or error.transient
            # it may quote bytes of a package or a channel that are no text, which no database takes
            failure = BuildFailed(row.id, type(error).__name__, printable(str(error)))
            return await self._fail(bound, job, row, failure, transient)
        except Exception as error:  # noqa: BLE001 - a defect fails the build, not the server; it is logged
            bound.exception("build crashed")
            message = "internal error; the server's log has the details under the build's id"
            return await self._fail(bound, job, row, BuildFailed(row.id, type(error).__name__, message), True)
        await self._builds.end(row.id, record=await self._tell(job, row.id, time.time() - row.created, None))
        bound.info("build completed", seconds=round(time.monotonic() - started, 3))
        return None

    async def _fail(
        self, bound: structlog.stdlib.BoundLogger, job: Job, row: BuildRow, failure: BuildFailed, transient: bool
    ) -> BuildFailed:
        bound.warning("build failed", error=failure.kind, reason=failure.message)
        # a full disk may keep even this from being recorded; the waiting requests get their answer all the same
        try:
            record = await self._tell(job, row.id, time.time() - row.created, failure)
            await self._builds.end(
                row.id, kind=failure.kind, message=failure.message, transient=transient, record=record
            )
        except Exception:  # noqa: BLE001 - logged, and the caller still has its answer
            bound.exception("failure not recorded")
            # a row that stays unfinished would keep everybody waiting who asks for the same
            with contextlib.suppress(Exception):
                await self._builds.end(row.id, kind=failure.kind, message=_UNRECORDED, transient=True)
        return failure

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if self._flights:
                with contextlib.suppress(Exception):
                    await self._builds.beat(self._owner)


def _failure(row: BuildRow) -> BuildFailed:
    return BuildFailed(row.id, row.error_kind or "", row.error_message or "")


def owner_of_this_process() -> str:
    """Host, process id and the process's start time, which together never come again."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start_time(os.getpid())}"


def is_dead(row: BuildRow) -> bool:
    """Whether nobody works on an unfinished build: its process is gone, or on another machine fell silent."""
    host, pid, started = row.owner.rsplit("/", 2)
    if host == socket.gethostname():
        return _start_time(int(pid)) != started
    return not is_within(LEASE_SECONDS, row.heartbeat)


def _start_time(pid: int) -> str:
    """In clock ticks since boot, from /proc/<pid>/stat (proc(5)); empty when no such process runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # the second field is the command in parentheses and may itself hold spaces and parentheses
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]
