"""Builds as directories, opened whole: install one, make it the current one, remove what nobody needs."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import structlog

from builder.archives.archive import DEFAULT_LIMITS, ArchiveLimits
from builder.environments.directories import publication, retirement
from builder.environments.directories.cache import is_cached
from builder.environments.directories.eviction import evict
from builder.environments.directories.extraction import Extraction, extract_all
from builder.environments.directories.installation import Installation
from builder.environments.directories.places import Place, telling
from builder.environments.directories.retirement import Retired
from builder.environments.directories.settings import DirectorySettings
from builder.environments.directories.steps import (
    Plan,
    Share,
    finish_installation,
    install_share,
    plan_installation,
)
from builder.errors import DirectoryUnsuitable, PackageRefused
from builder.locks.lock import Lock, LockedPackage
from builder.work.gather import gather_all
from builder.work.pool import HEAVY, WorkerPool
from builder.work.shares import deal_out, group_small
from builder.work.single_flight import SingleFlight
from storage.cancellation import to_end
from storage.disk.files import remove_leftovers, sync_directory, temporary_directory
from storage.errors import PackagesGone, StorageUnavailable
from storage.layout import DataDirectory

log = structlog.get_logger(__name__)

Fetch = Callable[[Sequence[LockedPackage]], Awaitable[Mapping[str, Path]]]
"""Downloads packages, and returns their verified archives by archive key."""

ATTEMPTS = 3
"""How often a directory is begun whose packages are evicted meanwhile."""
_SHARES = 2
"""Shares of a directory for each worker, so that none waits long for another's last package."""
_SWEEPS = 5
"""How often what a cancelled worker still writes into is removed, a moment apart."""


class Directories:
    """The builds below `environments_directory`. Use `open`."""

    def __init__(
        self,
        root: Path,
        settings: DirectorySettings,
        data: DataDirectory,
        pool: WorkerPool,
        fetch: Fetch,
        *,
        workers: int = 2,
        limits: ArchiveLimits = DEFAULT_LIMITS,
        refuse_scripts: bool = False,
    ) -> None:
        self._root = root
        self._settings = settings
        self._data = data
        self._pool = pool
        self._fetch = fetch
        self._shares = _SHARES * workers
        self._limits = limits
        self._refuse_scripts = refuse_scripts
        self._flights: SingleFlight[Path, Path] = SingleFlight()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: DirectorySettings,
        data: DataDirectory,
        pool: WorkerPool,
        fetch: Fetch,
        *,
        workers: int = 2,
        limits: ArchiveLimits = DEFAULT_LIMITS,
        refuse_scripts: bool = False,
    ) -> AsyncIterator[Self | None]:
        """Open the directories, or yield None if the setting is unset. What a dead server left is removed meanwhile.

        `workers` is how many processes `pool` has. Raises StorageUnavailable if the directory cannot be used.
        """
        root = settings.environments_directory
        if root is None:
            yield None
            return
        opened = cls(
            root, settings, data, pool, fetch, workers=workers, limits=limits, refuse_scripts=refuse_scripts
        )  # fmt: skip
        await asyncio.to_thread(opened._prepare)
        stopped = threading.Event()
        tidying = asyncio.create_task(asyncio.to_thread(opened.remove_leftovers, stopped.is_set))
        try:
            yield opened
        finally:
            await opened._flights.close()
            stopped.set()
            await tidying

    def _prepare(self) -> None:
        with telling(self._root):
            publication.make_folder(self._root)
        self._data.packages.mkdir(exist_ok=True, parents=True)

    def remove_leftovers(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Remove what was never finished. It takes a thread for as long as deleting takes; `stopped` ends it early."""
        removed = remove_leftovers([self._data.packages], stopped) + retirement.remove_unfinished(self._root, stopped)
        if removed:
            log.info("leftovers of environments on disk removed", count=removed)
        return removed

    def locate(self, namespace: str, name: str, build: str) -> Path:
        """Where a build is, or would be. Raises DirectoryUnsuitable."""
        return Place(self._root, namespace, name).directory(build)

    async def make(self, namespace: str, name: str, build: str, lock: Lock, platform: str) -> Path:
        """Install a lock's packages for `platform`, and return the build's directory, complete and flushed to disk.

        One that exists is returned at once. Nothing is current yet. Raises DirectoryUnsuitable, PackageRefused,
        PathConflict, StorageFull, StorageUnavailable, MemoryLimit, WorkerLost, and what downloads raise; then there is
        no directory.
        """
        if platform.startswith("win-"):
            raise DirectoryUnsuitable(name, f"packages for {platform} are not made for this system's file names")
        place = Place(self._root, namespace, name)
        directory = place.directory(build)
        return await self._flights.do(directory, lambda: self._make(place, directory, lock, platform))

    async def publish(self, namespace: str, name: str, build: str) -> Path:
        """Make a build the current one, and return the link to it. Who reads the link gets the old one or this.

        Raises DirectoryUnsuitable, StorageFull, StorageUnavailable; then the old one is still current.
        """
        place = Place(self._root, namespace, name)
        return await to_end(asyncio.to_thread(publication.publish, place, build))

    async def withdraw(self, namespace: str, name: str) -> None:
        """Remove the link: the environment is deleted. `retire` removes its directories later."""
        await to_end(asyncio.to_thread(publication.withdraw, Place(self._root, namespace, name)))

    async def find_current(self, namespace: str, name: str) -> str | None:
        """Return the build to which the link leads."""
        return await asyncio.to_thread(publication.find_current, Place(self._root, namespace, name))

    async def list_builds(self, namespace: str, name: str) -> list[str]:
        """List the builds that have a directory."""
        return await asyncio.to_thread(retirement.list_builds, Place(self._root, namespace, name))

    async def retire(self, namespace: str, name: str, keep: Collection[str]) -> Retired:
        """Remove the directories of all builds but `keep` that nothing can be using any more.

        The current one always stays, one from which a process runs, and one that was current less than
        environments_grace ago. Raises StorageUnavailable.
        """
        place = Place(self._root, namespace, name)
        doing = f"removing old directories of {name}"
        retired = await self._pool.run(
            doing, retirement.retire, place, frozenset(keep), self._settings.environments_grace
        )
        if retired.removed:
            await self.evict()
        return retired

    async def evict(self) -> None:
        """Bound the cache of unpacked packages."""
        await self._pool.run("bounding the packages", evict, self._data.packages, self._settings.packages_limit)

    async def _make(self, place: Place, directory: Path, lock: Lock, platform: str) -> Path:
        for _ in range(ATTEMPTS):
            if await asyncio.to_thread(directory.is_dir):
                return directory
            unpacked = await self._unpack(lock.packages[platform])
            try:
                await self._install(place, directory, lock, platform)
            except PackagesGone as error:
                gone = error
                continue
            if unpacked:
                await self.evict()
            return directory
        raise StorageUnavailable("packages", "unpacked packages are removed before they can be used") from gone

    async def _unpack(self, packages: Sequence[LockedPackage]) -> int:
        """Unpack what is not in the cache, and return how many packages that was."""
        missing = await asyncio.to_thread(self._find_missing, packages)
        if not missing:
            return 0
        archives = await self._fetch(missing)
        work = [Extraction(package, archives[package.archive_key]) for package in missing]
        await gather_all(
            self._pool.run_sized(
                sum(map(_measure, group)),
                f"unpacking {group[0].package}",
                extract_all,
                self._data,
                group,
                self._limits,
            )
            for group in group_small(work, _measure)
        )
        return len(missing)

    def _find_missing(self, packages: Sequence[LockedPackage]) -> list[LockedPackage]:
        unique = {package.archive_key: package for package in packages}
        return [package for package in unique.values() if not is_cached(self._data.packages, package)]

    async def _install(self, place: Place, directory: Path, lock: Lock, platform: str) -> None:
        await asyncio.to_thread(publication.make_folders, place)
        async with _unfinished(place) as folder:
            installation = Installation(self._data.packages, lock, platform, folder, directory, self._limits)
            plan = await self._pool.run("planning a directory", plan_installation, installation)
            self._check_scripts(plan)
            await gather_all(
                self._pool.run(f"installing {share.packages[0][0]}", install_share, share)
                for share in self._share_out(installation, plan)
            )
            await self._pool.run("finishing a directory", finish_installation, installation)
            await to_end(asyncio.to_thread(_complete, folder, directory))

    def _share_out(self, installation: Installation, plan: Plan) -> list[Share]:
        packages = installation.lock.packages[installation.platform]
        dealt = deal_out(packages, self._shares, lambda package: plan.paths[package.name])
        return [
            Share(installation, [(package, plan.excluded.get(package.name, ())) for package in some]) for some in dealt
        ]

    def _check_scripts(self, plan: Plan) -> None:
        if plan.scripts and self._refuse_scripts:
            package, names = next(iter(plan.scripts.items()))
            raise PackageRefused(
                package,
                f"it has the link script {names[0]}, which is never run, and refuse_scripts forbids skipping it",
            )


def _measure(extraction: Extraction) -> int:
    size = extraction.package.size
    return HEAVY if size is None else size


def _complete(folder: Path, directory: Path) -> None:
    """Give a finished directory its name. Another process may have made the same meanwhile."""
    with telling(directory):
        try:
            folder.rename(directory)
        except OSError:
            if not directory.is_dir():
                raise
        sync_directory(directory.parent)


@contextlib.asynccontextmanager
async def _unfinished(place: Place) -> AsyncIterator[Path]:
    """Yield a new folder for a directory in the making; it is removed unless it has got its name."""
    held = contextlib.ExitStack()
    with telling(place.folder):
        folder = await to_end(asyncio.to_thread(held.enter_context, temporary_directory(place.folder)))
    try:
        yield folder
    finally:
        await to_end(asyncio.to_thread(held.close))
        await _sweep(folder)


async def _sweep(folder: Path) -> None:
    """Remove what workers that were given up have written since."""
    for _ in range(_SWEEPS):
        if not await asyncio.to_thread(folder.exists):
            return
        await asyncio.sleep(0.2)
        await to_end(asyncio.to_thread(partial(shutil.rmtree, folder, ignore_errors=True)))
