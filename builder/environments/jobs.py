"""What happens to environments by itself: old builds go, some are solved again, and denied packages are told of.

One process at a time does it, whichever has the lease. All of it can be done again at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

import structlog

from builder.environments.life import NamedEnvironments
from builder.errors import BuilderError, PolicyRefusal
from builder.queue.owner import Owner
from storage.background import in_background
from storage.database.leases import Leases
from storage.environments.upkeep import EnvironmentUpkeep
from storage.environments.vocabulary import BuildStatus, Cause, Environment, EnvironmentBuild
from storage.errors import ConderyError
from storage.events.outbox import Record
from storage.text import printable, redact

log = structlog.get_logger(__name__)

LEASE = "jobs of environments"
LOOK_SECONDS = 60.0
LEASE_SECONDS = 180.0
SOLVING_SECONDS = 60.0
"""For how long environments are solved again before the other jobs have their turn."""
DAY = 86400.0
LONGEST_REASON = 2000
"""Characters of why an environment cannot be solved."""
OURSELVES = "condery"
"""Who asks for builds that are nobody's wish."""


Tell = Callable[[EnvironmentBuild, str], Record[None] | None]
"""What a new alarm, a build and a reason, adds to its transaction."""


@dataclass
class EnvironmentJobs:
    """`kept` is for how many seconds logs and locks of deleted builds stay; `tell` is asked about new alarms."""

    named: NamedEnvironments
    upkeep: EnvironmentUpkeep
    leases: Leases
    kept: float = 90 * DAY
    tell: Tell | None = None
    _owner: str = field(default_factory=lambda: str(Owner.new()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do all jobs again and again while the block runs."""
        async with in_background(self._run()):
            yield

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if await self.leases.take(LEASE, self._owner, LEASE_SECONDS):
                    await self._run_while_ours()
            except ConderyError as error:
                log.warning("the jobs of environments wait for the database", reason=str(error))

    async def _run_while_ours(self) -> None:
        """Do every job once, and renew the lease meanwhile. If another process has it, that one does the rest."""
        work = asyncio.create_task(self.run_all())
        try:
            while not (await asyncio.wait([work], timeout=LEASE_SECONDS / 3))[0]:
                if not await self.leases.take(LEASE, self._owner, LEASE_SECONDS):
                    log.warning("another process does the jobs of environments now")
                    return
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def run_all(self) -> None:
        """Do every job once; one that fails does not stop the others."""
        jobs: list[Callable[[], Awaitable[object]]] = [
            self.retire, self.forget, self.solve_again, self.find_alarms,
        ]  # fmt: skip
        for job in jobs:
            try:
                await job()
            except ConderyError as error:
                log.warning("a job of environments failed", job=job.__name__, reason=str(error))
            except Exception:
                log.exception("a job of environments failed", job=job.__name__)

    async def retire(self) -> int:
        """Delete the builds that the settings of their environment do not keep; never the current one."""
        count = 0
        async for found in self._each():
            values = (await self.named.wanted.settings.find(found.namespace, found.name)).values
            before = time.time() - values.kept_days * DAY if values.kept_days is not None else None
            for build_id in await self.upkeep.list_expired(found.id, values.kept_builds, before):
                with contextlib.suppress(ConderyError):
                    await self.named.store.environments.delete_build(build_id)
                    count += 1
        if count:
            log.info("old builds of environments deleted", count=count)
        return count

    async def forget(self) -> int:
        """Delete what is left of builds that were deleted long ago: their rows and logs, and so their locks."""
        builds = await self.upkeep.list_forgotten(time.time() - self.kept)
        for build_id in builds:
            await self.named.store.logs.delete(build_id)
        if builds:
            await self.upkeep.forget(builds)
        return len(builds)

    async def solve_again(self) -> int:
        """Build environments anew that ask for it, if the solve of now gives another lock.

        Namespaces take turns, so that one with very many environments does not keep the others waiting. What is left
        after SOLVING_SECONDS has its turn when the other jobs are done.
        """
        count, due = 0, dict[int, float]()
        async for found in self._each():
            values = (await self.named.wanted.settings.find(found.namespace, found.name)).values
            if values.solve_every_hours is not None:
                due[found.id] = time.time() - values.solve_every_hours * 3600.0
        end = time.monotonic() + SOLVING_SECONDS
        for found in take_turns(await self.upkeep.list_due(due)):
            # before: one that cannot be solved, or ends the process, is not tried again before its next time
            if not await self.upkeep.take_due(found.id, due[found.id]):
                continue
            reason = None
            try:
                count += await self._solve_again(found)
            except BuilderError as error:
                reason = printable(redact(str(error)))[:LONGEST_REASON]
                log.warning("cannot solve an environment again", environment=found.repository, reason=reason)
            except ConderyError as error:
                # it was deleted a moment ago, for example; the others have their turns all the same
                log.warning("an environment is not solved again", environment=found.repository, reason=str(error))
                continue
            if reason != found.resolve_error:
                await self.upkeep.note_resolve_error(found.id, reason)
            if time.monotonic() > end:
                break
        return count

    async def _solve_again(self, found: Environment) -> bool:
        if found.current_build is None:
            return False
        build = await self.named.store.builds.find(found.current_build)
        if build.status != BuildStatus.COMPLETED or not await self.named.has_news(build):
            return False
        await self.named.rebuild(build.id, by=OURSELVES, cause=Cause.SCHEDULE)
        return True

    async def find_alarms(self) -> int:
        """Look through the current builds for what the rules of now refuse; return how many news there are."""
        news, after = 0, 0
        while builds := await self.upkeep.list_current(after):
            after = builds[-1].id
            for build in builds:
                reason = await self._find_refusal(build)
                record = self.tell(build, reason) if self.tell and reason is not None else None
                if await self.upkeep.set_alarm(build.id, reason, record):
                    news += 1
                    if reason is not None:
                        log.warning(
                            "a current build holds what is not allowed",
                            environment=build.repository,
                            build=build.id,
                            reason=reason,
                        )
        return news

    async def _find_refusal(self, build: EnvironmentBuild) -> str | None:
        if build.lock_key is None:
            return None
        try:
            await self.named.builder.admission.of(build.namespace, build.name).check_stored(build.lock_key)
        except PolicyRefusal as error:
            return error.reason
        return None

    async def _each(self) -> AsyncIterator[Environment]:
        after = 0
        while found := await self.upkeep.list_environments(after):
            after = found[-1].id
            for each in found:
                yield each


def take_turns(environments: Iterable[Environment]) -> Iterator[Environment]:
    """One of each namespace after the other, in their order, then the next of each, until there are none left."""
    waiting: dict[str, deque[Environment]] = {}
    for each in environments:
        waiting.setdefault(each.namespace, deque()).append(each)
    while waiting:
        for namespace, own in list(waiting.items()):
            yield own.popleft()
            if not own:
                del waiting[namespace]
