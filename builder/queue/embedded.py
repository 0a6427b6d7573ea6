"""The queue inside the server. A build is a task of this process; all builds run at once and wait for turns.

A build's row is inserted before the work begins, and ended after the result is stored. A process that meets another's
unfinished row waits for it, and takes it over if its owner is dead. Work is idempotent: a build that is taken over
starts again, with everything finished so far in the caches.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import structlog

from builder.errors import (
    BuildCanceled,
    BuilderError,
    BuildFailed,
    BuildGivenUp,
    TooManyBuilds,
    TooManyNewBuilds,
)
from builder.queue.ended import read_end, read_failure
from builder.queue.flight import Flight
from builder.queue.following import FollowedBuild
from builder.queue.hooks import NO_HOOKS, Hooks
from builder.queue.job import Job
from builder.queue.owner import Owner
from builder.queue.protocol import CompletedBuild, Priority, SubmittedBuild
from builder.queue.rows import count_deaths, is_dead, is_since, measure_age, read_job
from builder.queue.watcher import Watcher
from builder.settings import BuilderSettings
from builder.work.buckets import Buckets
from builder.work.claims import OURSELVES, Begun, Caller, Claim, count_down, on_behalf_of, untold
from storage.catalog.builds import BuildRow, Builds
from storage.clock import is_within
from storage.errors import ConderyError, QuotaExceeded, ServerStopping, StorageFull
from storage.events.outbox import Record
from storage.text import printable

T = TypeVar("T")

log = structlog.get_logger(__name__)

BEAT_SECONDS = 2.0
RESUME_SECONDS = 15.0
"""How often a server looks for builds that nobody works on and nobody here has requested again."""
RETRY_SECONDS = 0.2
MOST_ATTEMPTS = 5
"""A build that was worked on this often, and took its process down each time, is given up.

Builds that only waited for a turn when their process died are not blamed."""

Run = Callable[[Job], Awaitable[str]]
"""Does a job. When it returns the result's key, the result is in the stores."""

Tell = Callable[[Job, str, float, CompletedBuild | BuildFailed], Awaitable[Record[None] | None]]
"""Returns what to record with the end of a build, given the job, the build's id, its seconds, and how it ended."""
_UNRECORDED = "the build failed, and the reason could not be recorded; the server's log has it under the build's id"
_CRASHED = "internal error; the server's log has the details under the build's id"
_FOREIGN = "another version of the server started this build and this one cannot resume it; ask again"
_UNREMEMBERED = frozenset({None, QuotaExceeded.__name__})
"""Not a failure, or one that ends as soon as an administrator raises the quota, which is no part of a job's key."""


async def tell_nobody(job: Job, build_id: str, seconds: float, end: CompletedBuild | BuildFailed) -> None:
    return None


class EmbeddedQueue:
    """A BuildQueue (`builder.queue.protocol`) that runs jobs with `run` in this process."""

    def __init__(
        self,
        builds: Builds,
        run: Run,
        settings: BuilderSettings,
        tell: Tell = tell_nobody,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        self._builds = builds
        self._run = run
        self._tell = tell
        self._hooks = hooks
        self._settings = settings
        self._owner = Owner.new()
        self._flights: dict[str, Flight] = {}
        self._flying: set[asyncio.Task[None]] = set()
        """Also those that were stopped and are not over yet: they still use the database."""
        self._held: Counter[Caller] = Counter()
        """Who has something under way that counts as a build."""
        a_minute = settings.builds_per_minute
        self._begun = Buckets(a_minute / 60, a_minute) if a_minute else None
        self._heart: asyncio.Task[None] | None = None
        self._resumes = False
        self._watcher = Watcher(builds)

    async def start(self) -> None:
        self._resumes = True
        self._start_heart()
        await self._resume()

    async def _resume(self) -> None:
        """Resume the builds that nobody works on, including those that this process could not end."""
        for row in await self._builds.list_unfinished():
            if row.key in self._flights or not self._is_left(row):
                continue
            job = read_job(row)
            if job is None:
                await self._builds.fail(row.id, kind="VersionForeign", message=_FOREIGN, transient=True)
                continue
            # it may have ended since it was read, and somebody may request it while it is being taken
            if await self._builds.take(row, str(self._owner)) and row.key not in self._flights:
                log.info("build resumed", build=row.id, deaths=count_deaths(row))
                self._begin(Flight(job, Claim(priority=row.priority)), row)

    def _is_left(self, row: BuildRow) -> bool:
        """Whether nobody works on an unfinished build that is not one of our flights."""
        return row.owner == str(self._owner) or is_dead(row, self._owner)

    async def close(self) -> None:
        for flight in list(self._flights.values()):
            flight.stop(ServerStopping())
        tasks = set(self._flying)
        if self._heart:
            self._heart.cancel()
            tasks.add(self._heart)
        await self._watcher.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        # without the database they are still taken over, a little later
        with contextlib.suppress(ConderyError):
            await self._builds.let_go(str(self._owner))

    async def submit(
        self,
        job: Job,
        caller: Caller = OURSELVES,
        priority: Priority = Priority.NORMAL,
        begun: Begun = untold,
    ) -> Flight:
        flight = self._flights.get(job.key)
        if flight is None:
            self._check_room(caller)
            flight = self._begin(Flight(job, Claim(caller, priority=priority), begun))
        await flight.wait_for_row()
        if caller.signed_in and flight.is_followed:
            # its owner would count it among those of strangers until our heart beats
            await self._builds.note_waiting({flight.id: caller.name})
        if flight.claim.priority < priority:
            await self.set_priority(flight.id, priority)
        return flight

    def _begin(self, flight: Flight, taken: BuildRow | None = None) -> Flight:
        self._start_heart()
        with on_behalf_of(flight.claim):
            flight.task = asyncio.create_task(self._fly(flight, taken))
        self._flights[flight.job.key] = flight
        self._flying.add(flight.task)
        flight.task.add_done_callback(self._flying.discard)
        flight.task.add_done_callback(lambda _: self._forget(flight))
        return flight

    def _start_heart(self) -> None:
        if self._heart is None:
            self._heart = asyncio.create_task(self._beat())

    def _forget(self, flight: Flight) -> None:
        if self._flights.get(flight.job.key) is flight:
            del self._flights[flight.job.key]

    def _check_room(self, caller: Caller) -> None:
        """Raises TooManyBuilds. Builds that a dead server left are resumed, however many there are."""
        if caller == OURSELVES:
            return
        settings = self._settings
        firsts = [*(flight.claim.first for flight in self._flights.values()), *self._held.elements()]
        own = firsts.count(caller)
        if own >= settings.builds_per_caller:
            raise TooManyBuilds(own, settings.builds_per_caller, "builds_per_caller", caller.name)
        # what was resumed may have been anybody's, and may be more than those who are not signed in may have
        others = sum(not first.signed_in for first in firsts)
        most = settings.anonymous_builds_at_most
        if not caller.signed_in and others >= most:
            whose = "all who are not signed in"
            raise TooManyBuilds(others, most, "anonymous_builds_at_most", whose)
        counted = len(firsts) - others + min(others, most)
        if counted >= settings.builds_at_most:
            raise TooManyBuilds(counted, settings.builds_at_most, "builds_at_most")
        if self._begun is not None and (seconds := self._begun.take(caller)):
            raise TooManyNewBuilds(settings.builds_per_minute, caller.name, math.ceil(seconds))

    @contextlib.contextmanager
    def holding(self, caller: Caller) -> Iterator[None]:
        self._check_room(caller)
        self._held[caller] += 1
        try:
            yield
        finally:
            count_down(self._held, caller)

    async def follow(self, build_id: str) -> SubmittedBuild | None:
        row = await self._builds.find(build_id)
        if row is None:
            return None
        flight = self._flights.get(row.key)
        return flight if flight and flight.id == build_id else FollowedBuild(row, self._builds, self._watcher)

    async def cancel(self, build_id: str, reason: str) -> bool:
        row = await self._builds.find(build_id)
        if row is None or row.ended is not None:
            return False
        failure = BuildCanceled(build_id, printable(reason))
        # nobody can be told about a build of another version, which is canceled all the same
        job = read_job(row)
        record = await self._tell(job, build_id, row.now - row.created, failure) if job else None
        done = await self._builds.fail(
            build_id, kind=failure.kind, message=failure.message, canceled=True, record=record
        )
        if done and job:
            self._hooks.ended(job)
        flight = self._flights.get(row.key)
        if done and flight and flight.id == build_id:
            self._stop(flight, failure)
        return done

    def _stop(self, flight: Flight, end: CompletedBuild | ConderyError) -> None:
        log.info("build stopped", build=flight.id, reason=str(end))
        self._forget(flight)
        flight.stop(end)

    async def set_priority(self, build_id: str, priority: Priority) -> bool:
        done = await self._builds.set_priority(build_id, priority)
        for flight in self._flights.values():
            if done and flight.id == build_id:
                flight.claim.set_priority(priority)
        return done

    async def find_remembered_failure(self, job: Job) -> BuildFailed | None:
        if job.key in self._flights:
            return None
        row = await self._builds.last(job.key)
        if row is None or row.ended is None or row.error_kind in _UNREMEMBERED:
            return None
        memory = self._settings.transient_failure_memory if row.error_transient else self._settings.failure_memory
        return read_failure(row) if is_within(memory, row.ended, row.now) else None

    async def _fly(self, flight: Flight, taken: BuildRow | None) -> None:
        end: CompletedBuild | ConderyError
        try:
            row = taken or await self._own(flight)
            flight.adopt_row(row.id)
            end = read_end(row) if row.ended is not None else await self._work(flight, row)
        except ConderyError as error:
            end = BuildFailed(flight.id, type(error).__name__, printable(str(error)))
        except Exception as error:
            log.exception("build queue failed", build=flight.id)
            message = "internal error; the server's log has the details"
            end = BuildFailed(flight.id, type(error).__name__, message)
        except asyncio.CancelledError:
            # the first end counts: whoever stopped it has already said why
            flight.end(ServerStopping())
            raise
        # whoever asks from now on starts a new build
        self._forget(flight)
        flight.end(end)

    async def _own(self, flight: Flight) -> BuildRow:
        """Return the row of the job's build: ours to work on, or ended by the process that owned it."""
        job, owner, begun, followed = flight.job, str(self._owner), time.monotonic(), ""
        while True:
            row = await self._builds.begin(
                flight.id, job.key, job.to_json(), owner, priority=int(flight.claim.priority)
            )
            if row:
                flight.begun()
                return row
            other = await self._builds.last(job.key)
            if other is None:
                # the row in the way is gone; or another key's build has the same id, which is almost impossible
                await asyncio.sleep(RETRY_SECONDS)
                flight.id = secrets.token_hex(6)
                continue
            if other.ended is not None and other.id != followed and not is_since(begun, other):
                flight.id = secrets.token_hex(6)
                continue
            if other.ended is not None:
                return other
            followed = other.id
            row = await self._follow(flight, other)
            if row is not None and (row.ended is not None or await self._builds.take(row, owner)):
                return row

    async def _follow(self, flight: Flight, other: BuildRow) -> BuildRow | None:
        """Wait until another process's build ends or nobody works on it. Returns its row, or None if it was deleted."""

        def is_over(row: BuildRow) -> bool:
            # as its row says; `submit` then raises it if the caller here wants more
            flight.claim.set_priority(row.priority)
            return row.ended is not None or self._is_left(row)

        flight.adopt_row(other.id)
        return await self._watcher.until(other, is_over)

    async def _work(self, flight: Flight, row: BuildRow) -> CompletedBuild | BuildFailed:
        job, started = flight.job, time.monotonic()
        flight.is_ours = True
        bound = log.bind(build=row.id, kind=job.kind, specs=job.spec.list_wishes())
        try:
            if (deaths := count_deaths(row)) >= MOST_ATTEMPTS:
                raise BuildGivenUp(deaths)
            async with self._hooks.turn(job):
                if (end := await self._end_at_once(job, row, started)) is not None:
                    return end
                await self._builds.set_building(row.id, self._hooks.begins(job))
                completed = CompletedBuild(row.id, await self._run(job))
        except ConderyError as error:
            transient = not isinstance(error, BuilderError) or error.transient
            # it may quote bytes from a package or a channel that are not text, which no database accepts
            failure = BuildFailed(row.id, type(error).__name__, printable(str(error)))
            return await self._fail(bound, job, row, started, failure, transient)
        except (Exception, asyncio.CancelledError) as error:
            # a defect fails the build, not the server; so does the cancellation of shared work, unless this task was
            # stopped
            if _is_being_cancelled():
                raise
            bound.exception("build crashed")
            failure = BuildFailed(row.id, type(error).__name__, _CRASHED)
            return await self._fail(bound, job, row, started, failure, True)
        return await self._complete(job, row, started, completed)

    async def _end_at_once(self, job: Job, row: BuildRow, started: float) -> CompletedBuild | BuildFailed | None:
        """End a build whose result is there already, in one transaction; None if there is something to be done."""
        made = await self._hooks.known(job)
        if made is None:
            return None
        try:
            return await self._complete(job, row, started, CompletedBuild(row.id, made))
        except ConderyError as error:
            # it is gone again, or the storage does not answer: the work looks again, and waits
            log.info("build cannot end at once", build=row.id, reason=str(error))
            return None

    async def _complete(
        self, job: Job, row: BuildRow, started: float, completed: CompletedBuild
    ) -> CompletedBuild | BuildFailed:
        record = await self._tell(job, row.id, measure_age(row, started), completed)
        if not await self._record(lambda: self._builds.complete(row.id, completed.made or "", record)):
            return await self._end_elsewhere(row.id, completed)
        self._hooks.ended(job)
        seconds = round(time.monotonic() - started, 3)
        log.info("build completed", build=row.id, kind=job.kind, specs=job.spec.match_specs(), seconds=seconds)
        return completed

    async def _end_elsewhere(self, build_id: str, made: CompletedBuild) -> CompletedBuild | BuildFailed:
        """Return how a build ended that somebody else ended while this process worked on it."""
        row = await self._builds.find(build_id)
        return made if row is None else read_end(row)

    async def _record(self, write: Callable[[], Awaitable[T]]) -> T:
        """Record an end, on a full disk with what is reserved there. Raises StorageError."""
        try:
            return await write()
        except StorageFull:
            if not await asyncio.to_thread(self._hooks.make_room):
                raise
            return await write()

    async def _fail(
        self,
        bound: structlog.stdlib.BoundLogger,
        job: Job,
        row: BuildRow,
        started: float,
        failure: BuildFailed,
        transient: bool,
    ) -> BuildFailed:
        # a full disk may prevent even this record; waiting requests get their answer anyway
        try:
            bound.warning("build failed", error=failure.kind, reason=failure.message)
            record = await self._tell(job, row.id, measure_age(row, started), failure)
            await self._record(
                lambda: self._builds.fail(
                    row.id, kind=failure.kind, message=failure.message, transient=transient, record=record
                )
            )
            self._hooks.ended(job)
        except Exception:  # noqa: BLE001 - logged, and the caller still has its answer
            bound.exception("failure not recorded")
            # a row that stays unfinished would keep everybody waiting who requests the same
            with contextlib.suppress(Exception):
                await self._builds.fail(row.id, kind=failure.kind, message=_UNRECORDED, transient=True)
        return failure

    async def _beat(self) -> None:
        resumed = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await _go_on_after(self._give_signs)
            await _go_on_after(self._tell_who_waits)
            if self._resumes and time.monotonic() - resumed >= RESUME_SECONDS:
                await _go_on_after(self._resume)
                resumed = time.monotonic()

    async def _give_signs(self) -> None:
        """Signal that our builds are being worked on, and learn what others did to them."""
        ours = {flight.id: flight for flight in self._flights.values() if flight.is_ours}
        before = {build_id: flight.claim.priority for build_id, flight in ours.items()}
        found = await self._builds.beat(str(self._owner), list(ours)) if ours else {}
        for build_id, flight in ours.items():
            if (wanted := found.get(build_id)) is not None:
                # a priority that was set here meanwhile may be newer than the one read
                if flight.claim.priority == before[build_id]:
                    flight.claim.set_priority(wanted.priority)
                if wanted.waiter is not None:
                    flight.claim.note_waiting(Caller(wanted.waiter, signed_in=bool(wanted.waiter)))
                continue
            row = await self._builds.find(build_id)
            # a build that was taken over goes on here too: it is done all the sooner
            if row is not None and row.ended is not None and self._flights.get(flight.job.key) is flight:
                self._stop(flight, read_end(row))

    async def _tell_who_waits(self) -> None:
        """Tell the owners of builds that are waited for here."""
        followed = [flight for flight in self._flights.values() if flight.is_followed]
        waiters = {flight.id: waiter for flight in followed if (waiter := flight.find_waiter()) is not None}
        if waiters:
            await self._builds.note_waiting(waiters)


async def _go_on_after(step: Callable[[], Awaitable[None]]) -> None:
    """Run one step of a loop that must outlive any failure of the step."""
    try:
        await step()
    except Exception:
        # without the heart, other processes would take over our builds
        log.exception("heartbeat of the queue failed")


def _is_being_cancelled() -> bool:
    """Whether somebody cancelled this task, rather than something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
