"""What happens to environments by itself: old builds go, some are solved again, and denied packages are told of.

One process at a time does it, whichever has the lease. All of it can be done again at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
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
            with contextlib.suppress(ConderyError):
                if await self.leases.take(LEASE, self._owner, LEASE_SECONDS):
                    await self.run_all()

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
        """Build environments anew that ask for it, if the solve of now gives another lock."""
        count, due = 0, dict[int, float]()
        async for found in self._each():
            values = (await self.named.wanted.settings.find(found.namespace, found.name)).values
            if values.solve_every_hours is not None:
                due[found.id] = time.time() - values.solve_every_hours * 3600.0
        for found in await self.upkeep.list_due(due):
            # before: one that cannot be solved, or ends the process, is not tried again before its next time
            await self.upkeep.note_resolved(found.id)
            reason = None
            try:
                count += await self._solve_again(found)
            except BuilderError as error:
                reason = printable(redact(str(error)))[:LONGEST_REASON]
                log.warning("cannot solve an environment again", environment=found.repository, reason=reason)
            if reason != found.resolve_error:
                await self.upkeep.note_resolve_error(found.id, reason)
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
