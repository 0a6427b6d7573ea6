"""The queue within the server: a build is a task of this process, and all run at once; what they wait for are turns.

The row is inserted before the work begins and ended after the result is stored. A process that meets another's
unfinished row waits for it, and takes it over when its owner is dead. Work is idempotent, so taking over is beginning
again with everything cached that was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from math import inf

import structlog

from builder.errors import BuildCanceled, BuilderError, BuildFailed, TooManyBuilds, WorkerLost
from builder.queue.job import Job
from builder.queue.owner import Owner, is_running
from builder.queue.protocol import CompletedBuild, Priority
from builder.settings import BuilderSettings
from builder.work.claims import OURSELVES, Caller, Claim, on_behalf_of
from storage.catalog.builds import BuildRow, Builds
from storage.clock import is_within
from storage.errors import ConderyError, StorageUnavailable
from storage.events.outbox import Record
from storage.text import printable

log = structlog.get_logger(__name__)

BEAT_SECONDS = 2.0
LEASE_SECONDS = 15.0
SEEN_LEASE_SECONDS = 60.0
"""After this silence even a process that still runs has lost its builds: it hangs, or has forgotten them."""
POLL_SECONDS = 0.2
MOST_ATTEMPTS = 5
"""A build that was begun this often, and each time took its process down with it, is given up."""

Run = Callable[[Job], Awaitable[str]]
"""Does a job; the result is in the stores when it returns with the key of that."""

Tell = Callable[[Job, str, float, CompletedBuild | BuildFailed], Awaitable[Record[None] | None]]
"""What is to be recorded with the end of a build: of a job, by the build's id, after seconds, and how it ended."""
_UNRECORDED = "the build failed, and the reason could not be recorded; the server's log has it under the build's id"
_CRASHED = "internal error; the server's log has the details under the build's id"


async def tell_nobody(job: Job, build_id: str, seconds: float, end: CompletedBuild | BuildFailed) -> None:
    return None


class _Flight:
    """A build that runs, here or elsewhere, as those see it who wait for it in this process."""

    def __init__(self, job: Job, claim: Claim) -> None:
        self.job = job
        self.claim = claim
        self.id = secrets.token_hex(6)
        self.is_ours = False
        """Whether this process works on it, rather than waits for another's."""
        self.task: asyncio.Task[None] | None = None
        self._end: CompletedBuild | ConderyError | None = None
        self._ended = asyncio.Event()

    async def wait(self, seconds: float | None, caller: Caller = OURSELVES) -> CompletedBuild | None:
        with self.claim.waited_for(caller), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        if isinstance(self._end, ConderyError):
            raise self._end
        return self._end

    def end(self, end: CompletedBuild | ConderyError) -> None:
        """The first end counts."""
        self._end = self._end or end
        self._ended.set()

    def stop(self, end: CompletedBuild | ConderyError) -> None:
        """End it for those who wait, and stop working on it."""
        self.end(end)
        self.claim.give_up()
        if self.task:
            self.task.cancel()


class EmbeddedQueue:
    """A BuildQueue (`builder.queue.protocol`) that runs jobs with `run` in this process."""

    def __init__(self, builds: Builds, run: Run, settings: BuilderSettings, tell: Tell = tell_nobody) -> None:
        self._builds = builds
        self._run = run
        self._tell = tell
        self._settings = settings
        self._owner = Owner.new()
        self._flights: dict[str, _Flight] = {}
        self._heart: asyncio.Task[None] | None = None

    async def start(self) -> None:
        for row in await self._builds.unfinished():
            if is_dead(row, self._owner):
                log.info("build resumed", build=row.id, attempt=row.attempts + 1)
                await self.submit(Job.from_json(row.request), priority=Priority(row.priority))

    async def close(self) -> None:
        closing = StorageUnavailable("the queue of builds", "this server is stopping; ask again")
        tasks = [flight.task for flight in self._flights.values() if flight.task]
        for flight in list(self._flights.values()):
            flight.stop(closing)
        if self._heart:
            self._heart.cancel()
            tasks.append(self._heart)
        await asyncio.gather(*tasks, return_exceptions=True)
        # without the database they are taken over all the same, a little later
        with contextlib.suppress(ConderyError):
            await self._builds.let_go(str(self._owner))

    async def submit(self, job: Job, caller: Caller = OURSELVES, priority: Priority = Priority.NORMAL) -> _Flight:
        flight = self._flights.get(job.key)
        if flight is None:
            self._check_room(caller)
            return self._begin(_Flight(job, Claim(caller, priority=priority)))
        if flight.claim.priority < priority:
            flight.claim.set_priority(priority)
            await self._builds.set_priority(flight.id, priority)
        return flight

    def _begin(self, flight: _Flight) -> _Flight:
        if self._heart is None:
            self._heart = asyncio.create_task(self._beat())
        with on_behalf_of(flight.claim):
            flight.task = asyncio.create_task(self._fly(flight))
        self._flights[flight.job.key] = flight
        flight.task.add_done_callback(lambda _: self._forget(flight))
        return flight

    def _forget(self, flight: _Flight) -> None:
        if self._flights.get(flight.job.key) is flight:
            del self._flights[flight.job.key]

    def _check_room(self, caller: Caller) -> None:
        """What a dead server left is resumed however much it is."""
        if caller == OURSELVES:
            return
        own = sum(flight.claim.first == caller for flight in self._flights.values())
        if own >= self._settings.builds_per_caller:
            raise TooManyBuilds(own, self._settings.builds_per_caller, "builds_per_caller", caller.name)
        if len(self._flights) >= self._settings.builds_at_most:
            raise TooManyBuilds(len(self._flights), self._settings.builds_at_most, "builds_at_most")

    async def cancel(self, build_id: str, reason: str) -> bool:
        row = await self._builds.find(build_id)
        if row is None or row.ended is not None:
            return False
        failure = BuildCanceled(build_id, printable(reason))
        record = await self._tell(Job.from_json(row.request), build_id, row.now - row.created, failure)
        done = await self._builds.fail(
            build_id, kind=failure.kind, message=failure.message, canceled=True, record=record
        )
        flight = self._flights.get(row.key)
        if done and flight and flight.id == build_id:
            self._stop(flight, failure)
        return done

    def _stop(self, flight: _Flight, end: CompletedBuild | ConderyError) -> None:
        log.info("build stopped", build=flight.id, reason=str(end))
        self._forget(flight)
        flight.stop(end)

    async def set_priority(self, build_id: str, priority: Priority) -> bool:
        done = await self._builds.set_priority(build_id, priority)
        for flight in self._flights.values():
            if done and flight.id == build_id:
                flight.claim.set_priority(priority)
        return done

    async def remembered_failure(self, job: Job) -> BuildFailed | None:
        if job.key in self._flights:
            return None
        row = await self._builds.last(job.key)
        if row is None or row.ended is None or row.error_kind is None:
            return None
        memory = self._settings.transient_failure_memory if row.error_transient else self._settings.failure_memory
        return _failure(row) if is_within(memory, row.ended, row.now) else None

    async def _fly(self, flight: _Flight) -> None:
        end: CompletedBuild | ConderyError
        try:
            row = await self._own(flight)
            end = _end_of(row) if row.ended is not None else await self._work(flight, row)
        except ConderyError as error:
            end = BuildFailed(flight.id, type(error).__name__, printable(str(error)))
        except Exception as error:
            log.exception("build queue failed", build=flight.id)
            message = "internal error; the server's log has the details"
            end = BuildFailed(flight.id, type(error).__name__, message)
        # whoever asks from now on begins anew
        self._forget(flight)
        flight.end(end)

    async def _own(self, flight: _Flight) -> BuildRow:
        """The row of the job's build: ours to work on, or ended by the process that had it."""
        job, owner, begun, followed = flight.job, str(self._owner), time.monotonic(), ""
        while True:
            row = await self._builds.begin(
                flight.id, job.key, job.to_json(), owner, priority=int(flight.claim.priority)
            )
            if row:
                return row
            other = await self._builds.last(job.key)
            if other is None:
                continue
            if other.ended is not None:
                if other.id == followed or _is_since(begun, other):
                    flight.id = other.id
                    return other
                flight.id = secrets.token_hex(6)
                continue
            flight.id = followed = other.id
            if is_dead(other, self._owner) and await self._builds.take(other, owner):
                return other
            await asyncio.sleep(POLL_SECONDS)

    async def _work(self, flight: _Flight, row: BuildRow) -> CompletedBuild | BuildFailed:
        job, started = flight.job, time.monotonic()
        flight.is_ours = True
        bound = log.bind(build=row.id, kind=job.kind, specs=job.spec.match_specs())
        try:
            if row.attempts >= MOST_ATTEMPTS:
                raise WorkerLost("building this image, each time it was tried")
            await self._builds.set_building(row.id)
            completed = CompletedBuild(row.id, await self._run(job))
        except ConderyError as error:
            transient = not isinstance(error, BuilderError) or error.transient
            # it may quote bytes of a package or a channel that are no text, which no database takes
            failure = BuildFailed(row.id, type(error).__name__, printable(str(error)))
            return await self._fail(bound, job, row, started, failure, transient)
        except Exception as error:  # noqa: BLE001 - a defect fails the build, not the server; it is logged
            bound.exception("build crashed")
            failure = BuildFailed(row.id, type(error).__name__, _CRASHED)
            return await self._fail(bound, job, row, started, failure, True)
        record = await self._tell(job, row.id, _age(row, started), completed)
        if not await self._builds.complete(row.id, completed.made or "", record):
            return await self._end_elsewhere(row.id, completed)
        bound.info("build completed", seconds=round(time.monotonic() - started, 3))
        return completed

    async def _end_elsewhere(self, build_id: str, made: CompletedBuild) -> CompletedBuild | BuildFailed:
        """How a build ended that somebody else ended while it was worked on here."""
        row = await self._builds.find(build_id)
        return made if row is None else _end_of(row)

    async def _fail(
        self,
        bound: structlog.stdlib.BoundLogger,
        job: Job,
        row: BuildRow,
        started: float,
        failure: BuildFailed,
        transient: bool,
    ) -> BuildFailed:
        bound.warning("build failed", error=failure.kind, reason=failure.message)
        # a full disk may keep even this from being recorded; the waiting requests get their answer all the same
        try:
            record = await self._tell(job, row.id, _age(row, started), failure)
            await self._builds.fail(
                row.id, kind=failure.kind, message=failure.message, transient=transient, record=record
            )
        except Exception:  # noqa: BLE001 - logged, and the caller still has its answer
            bound.exception("failure not recorded")
            # a row that stays unfinished would keep everybody waiting who asks for the same
            with contextlib.suppress(Exception):
                await self._builds.fail(row.id, kind=failure.kind, message=_UNRECORDED, transient=True)
        return failure

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            with contextlib.suppress(ConderyError):
                await self._give_signs()

    async def _give_signs(self) -> None:
        """Say that our builds are worked on, and learn what others did to them."""
        ours = {flight.id: flight for flight in self._flights.values() if flight.is_ours}
        priorities = await self._builds.beat(str(self._owner), list(ours)) if ours else {}
        for build_id, flight in ours.items():
            if build_id in priorities:
                flight.claim.set_priority(priorities[build_id])
                continue
            row = await self._builds.find(build_id)
            # one that was taken over is worked on all the same, as it is done the sooner
            if row is not None and row.ended is not None and self._flights.get(flight.job.key) is flight:
                self._stop(flight, _end_of(row))


def is_dead(row: BuildRow, us: Owner) -> bool:
    """Whether nobody works on an unfinished build: its owner let it go, is gone, or has given no sign for too long."""
    if not row.owner:
        return True
    owner = Owner.parse(row.owner)
    running = is_running(owner) if owner and us.can_see(owner) else None
    lease = SEEN_LEASE_SECONDS if running else LEASE_SECONDS
    return running is False or not is_within(lease, row.heartbeat, row.now)


def _age(row: BuildRow, started: float) -> float:
    """Seconds since a build was asked for, if its row was read at `started` by the monotonic clock."""
    return row.now - row.created + time.monotonic() - started


def _is_since(begun: float, row: BuildRow) -> bool:
    """Whether a build has ended since then by the monotonic clock, as far as the database's clock can be right."""
    assert row.ended is not None
    return is_within(inf, row.ended, row.now) and row.now - row.ended <= time.monotonic() - begun


def _end_of(row: BuildRow) -> CompletedBuild | BuildFailed:
    return _failure(row) if row.error_kind else CompletedBuild(row.id, row.made or None)


def _failure(row: BuildRow) -> BuildFailed:
    if row.status == "CANCELED":
        return BuildCanceled(row.id, row.error_message or "")
    return BuildFailed(row.id, row.error_kind or "", row.error_message or "")
