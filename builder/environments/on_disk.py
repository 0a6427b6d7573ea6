"""Keeps directories as environments are: the current builds installed and linked, others removed when they may go.

What is wanted is read from the database each time, so nothing is lost if the process dies, and a move between builds,
a new build and a deletion are all the same. One process of a machine does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import time
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from builder.build import Builder
from builder.environments.directories.directories import Directories
from builder.errors import BuilderError, DirectoryUnsuitable
from builder.locks.aside import read_lock
from builder.platforms import host_platform
from builder.work.claims import Claim, on_behalf_of
from storage.background import in_background
from storage.environments.names import CHANNEL
from storage.environments.on_disk import BuildsOnDisk
from storage.environments.upkeep import EnvironmentUpkeep, Wanted
from storage.errors import ConderyError, quote
from storage.events.hints import hear

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
AGAIN_SECONDS = 600.0
"""After so long what may have passed is tried again, such as a full disk."""
PAUSE_SECONDS = 0.5
"""Between two looks, however much changes."""


@dataclass
class OnDisk:
    """Installs the builds of environments on this machine."""

    directories: Directories
    upkeep: EnvironmentUpkeep
    noted: BuildsOnDisk
    builder: Builder
    lock_file: Path
    _seen: object = None
    _failed: dict[int, tuple[int, float]] = field(default_factory=dict)
    """By environment, the build that could not be installed, and when to try again (time.monotonic)."""
    _told: set[int] = field(default_factory=set)
    """Builds of which it is recorded that they are on disk."""

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
        forced = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await changed.wait()
            changed.clear()
            # on SQLite any change is heard, of which a busy server has some all the time
            if force := time.monotonic() - forced >= LOOK_SECONDS:
                forced = time.monotonic()
            try:
                await self._look(force=force)
            except ConderyError as error:
                log.warning("environments on disk are not kept up to date", reason=str(error))
            except Exception:
                # the next change may be to one that is not as wrong
                log.exception("environments on disk are not kept up to date")
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
        """Bring all directories up to date once.

        What fails is told with the build, and tried again when there is another one; what may pass, also later.
        """
        for namespace, name in await self.upkeep.list_deleted():
            if await self.directories.find_current(namespace, name) is not None:
                await self.directories.withdraw(namespace, name)
            if await self.directories.list_builds(namespace, name):
                await self._retire(namespace, name, ())
        after = 0
        while found := await self.upkeep.list_wanted(after):
            after = found[-1].environment
            for each in found:
                build, until = self._failed.get(each.environment, (0, 0.0))
                if build == each.build and time.monotonic() < until:
                    continue
                try:
                    await self._keep(each)
                except ConderyError as error:
                    await self._tell(each, error)

    async def _tell(self, wanted: Wanted, error: ConderyError) -> None:
        """Say with a build why it is not on disk."""
        may_pass = error.transient if isinstance(error, BuilderError) else True
        self._failed[wanted.environment] = wanted.build, time.monotonic() + (AGAIN_SECONDS if may_pass else math.inf)
        log.warning(
            "an environment is not installed on disk",
            environment=f"{wanted.namespace}/{wanted.name}",
            build=wanted.build,
            reason=str(error),
        )
        problem = f"{quote(error.name)}: {error.reason}" if isinstance(error, DirectoryUnsuitable) else str(error)
        await self.noted.note(wanted.build, None, problem)

    async def _keep(self, wanted: Wanted) -> None:
        namespace, name, build = wanted.namespace, wanted.name, str(wanted.build)
        if await self.directories.find_current(namespace, name) != build:
            document = await self.builder.catalog.locks.find(wanted.lock_key)
            lock = await read_lock(document) if document else None
            platform = host_platform()
            if lock is None or platform is None:
                return
            if platform not in lock.packages:
                raise DirectoryUnsuitable(name, f"it is built for {', '.join(lock.packages)}, and not for {platform}")
            with on_behalf_of(Claim(priority=-1)):
                await self.directories.make(namespace, name, build, lock, platform)
            await self.directories.publish(namespace, name, build)
            log.info("environment installed on disk", environment=f"{namespace}/{name}", build=wanted.build)
        if wanted.build not in self._told:
            await self.noted.note(wanted.build, str(self.directories.locate(namespace, name, build)))
            self._told.add(wanted.build)
        existing = set(await self.directories.list_builds(namespace, name)) - {build}
        if existing:
            kept = await self.upkeep.list_kept(wanted.environment)
            if existing - set(map(str, kept)):
                await self._retire(namespace, name, [str(each) for each in kept])

    async def _retire(self, namespace: str, name: str, kept: Collection[str]) -> None:
        retired = await self.directories.retire(namespace, name, kept)
        gone = {int(each) for each in retired.removed if each.isdecimal()}
        self._told -= gone
        await self.noted.drop(gone)


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
