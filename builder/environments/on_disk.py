"""Keeps directories as environments are: the current builds installed and linked, others removed when they may go.

What is wanted is read from the database each time, so nothing is lost if the process dies, and a move between builds,
a new build and a deletion are all the same. One process of a machine does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from builder.build import Builder
from builder.environments.directories.directories import Directories
from builder.locks.lock import Lock
from builder.platforms import host_platform
from builder.work.claims import Claim, on_behalf_of
from storage.background import in_background
from storage.environments.names import CHANNEL
from storage.environments.upkeep import EnvironmentUpkeep, Wanted
from storage.errors import ConderyError
from storage.events.hints import hear

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
PAUSE_SECONDS = 0.5
"""Between two looks, however much changes."""


@dataclass
class OnDisk:
    """Installs the builds of environments on this machine."""

    directories: Directories
    upkeep: EnvironmentUpkeep
    builder: Builder
    lock_file: Path
    _seen: object = None
    _failed: dict[int, int] = field(default_factory=dict)
    """By environment, the build that could not be installed."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep directories while the block runs."""
        changed = asyncio.Event()
        changed.set()
        async with (
            in_background(hear(self.upkeep.database, CHANNEL, changed.set)),
            in_background(self._run(changed)),
        ):
            yield

    async def _run(self, changed: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await changed.wait()
            is_change = changed.is_set()
            changed.clear()
            try:
                await self._look(force=not is_change)
            except ConderyError as error:
                log.warning("environments on disk are not kept up to date", reason=str(error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look(self, *, force: bool) -> None:
        version = await self.upkeep.find_version()
        if version == self._seen and not force:
            return
        with _alone(self.lock_file) as alone:
            if not alone:
                return
            await self.keep()
        self._seen = version

    async def keep(self) -> None:
        """Bring all directories up to date once. What fails is told, and tried again when there is another build."""
        for namespace, name in await self.upkeep.list_deleted():
            if await self.directories.find_current(namespace, name) is not None:
                await self.directories.withdraw(namespace, name)
            if await self.directories.list_builds(namespace, name):
                await self.directories.retire(namespace, name, ())
        after = 0
        while found := await self.upkeep.list_wanted(after):
            after = found[-1].environment
            for each in found:
                if self._failed.get(each.environment) == each.build:
                    continue
                try:
                    await self._keep(each)
                except ConderyError as error:
                    self._failed[each.environment] = each.build
                    log.warning(
                        "an environment is not installed on disk",
                        environment=f"{each.namespace}/{each.name}",
                        build=each.build,
                        reason=str(error),
                    )

    async def _keep(self, wanted: Wanted) -> None:
        namespace, name, build = wanted.namespace, wanted.name, str(wanted.build)
        if await self.directories.find_current(namespace, name) != build:
            document = await self.builder.catalog.locks.find(wanted.lock_key)
            lock = Lock.from_json(document) if document else None
            platform = host_platform()
            if lock is None or platform is None or platform not in lock.packages:
                return
            with on_behalf_of(Claim(priority=-1)):
                await self.directories.make(namespace, name, build, lock, platform)
            await self.directories.publish(namespace, name, build)
            log.info("environment installed on disk", environment=f"{namespace}/{name}", build=wanted.build)
        existing = set(await self.directories.list_builds(namespace, name)) - {build}
        if existing:
            kept = await self.upkeep.list_kept(wanted.environment)
            if existing - set(map(str, kept)):
                await self.directories.retire(namespace, name, [str(each) for each in kept])


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no other process of this machine does the same while the block runs."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)
