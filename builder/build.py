"""One build: from a spec to a lock, and from a lock to an image.

    solve -> download -> inspect -> overlaps -> plan -> layers -> environment layer -> config, manifests, index

All blobs are stored before the manifests, the manifests with the image, and the image before anybody gets an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from builder.artifacts.artifact import ARCHIVE, IMAGE_FILES, Pack, choose_platform, make_artifact, make_artifact_key
from builder.artifacts.conda_pack import pack, plan_archive
from builder.artifacts.image_file import record_image_file
from builder.base.chosen import ChosenBases
from builder.base.prefix_path import check_prefix
from builder.base.vocabulary import BaseImage
from builder.canonical import make_key
from builder.channels.download import Downloader
from builder.channels.logins import Logins, NamespaceLogins
from builder.errors import BuilderError, UnknownLock
from builder.image.finished import FinishedImage
from builder.image.platform import join_platforms
from builder.image.report import BuildReport
from builder.layers.assembly import Layers
from builder.layers.plan import PLAN_FORMAT
from builder.layers.popularity import Popularity
from builder.locks.aside import read_lock, write_lock
from builder.locks.lock import Lock, LockedPackage, has_wheels, order_by_dependency
from builder.names.spec import EnvironmentSpec
from builder.platform_build import PlatformBuild
from builder.policy.admission import Admission
from builder.policy.policy import NO_POLICY, Policy, check_lock
from builder.progress import Event, Progress, show_nothing
from builder.pypi.platform import check_lock_of_wheels
from builder.pypi.resolver import PypiResolver, PypiSolve
from builder.queue.job import Job
from builder.settings import BuilderSettings
from builder.solve.own import OwnSolvers
from builder.solve.resolution import answers_meanwhile, is_fresh, make_resolution_key
from builder.stages import Stages
from builder.work.gather import gather_all
from builder.work.pool import WorkerPool
from builder.work.single_flight import SingleFlight
from builder.work.stopwatch import Stopwatch
from storage.blobs.joins import Join
from storage.blobs.store import BlobStore
from storage.catalog.locks import Resolution
from storage.catalog.parts import Catalog
from storage.disk.files import temporary_directory
from storage.errors import BlobUnknown, FragmentsGone, ManifestBlobUnknown, StorageUnavailable
from storage.layout import DataDirectory

T = TypeVar("T")

IMAGE_FORMAT = 2
"""Part of every image's key: raise it when the same lock and base must give other bytes."""

ATTEMPTS = 3
"""How often something is made whose parts are deleted while it is being made."""


@dataclass(frozen=True)
class Solved:
    """A lock, with the key under which its spec's solution is kept (empty if it was requested by its own key).

    `unrecorded` is when it was solved, if that is not recorded yet: an older lock answers until the result is made.
    """

    lock: Lock
    key: str = ""
    unrecorded: float | None = None


@dataclass(frozen=True)
class Place:
    """Where a named environment is, whose rules hold for it."""

    namespace: str
    repository: str
    """Where its images are."""
    environment: str = ""
    anew: bool = False
    """Whether it is solved again though there is a fresh lock."""


@dataclass(frozen=True)
class Builder:
    """Everything that builds need. A build is one of its methods."""

    settings: BuilderSettings
    data: DataDirectory
    catalog: Catalog
    blobs: BlobStore
    layers: Layers
    solver: OwnSolvers
    pypi: PypiResolver
    downloader: Downloader
    pool: WorkerPool
    bases: ChosenBases
    popularity: Popularity
    stages: Stages
    admission: Admission
    logins: NamespaceLogins
    _solves: SingleFlight[str, Solved] = field(default_factory=SingleFlight)
    _images: SingleFlight[str, FinishedImage] = field(default_factory=SingleFlight)

    @property
    def _platforms(self) -> PlatformBuild:
        return PlatformBuild(self.settings, self.data, self.blobs, self.layers, self.pool, self.popularity)

    async def close(self) -> None:
        """Stop whatever is being made. Nothing unfinished is kept."""
        for part in (self._images, self._solves, self.layers):
            await part.close()

    async def run(self, job: Job) -> str:
        """Make what `job` asks for, and return its key. Idempotent, and quick if everything is there."""
        if name := job.artifact:
            place = Place(job.namespace, "") if job.namespace else None
            return await self._make_of_lock(
                job, show_nothing, lambda lock, watch: self._make_file(lock, name, watch), place
            )
        return (await self._make_image_of(job, show_nothing))[0]

    async def image_of(self, spec: EnvironmentSpec, progress: Progress) -> FinishedImage:
        """Make the image of `spec` that `run` would make, for somebody who watches."""
        spec = await self.logins.give_owner(spec, self.settings.root)
        return (await self._make_image_of(Job("image", spec), progress))[1]

    async def make_named(self, job: Job, place: Place, progress: Progress) -> tuple[Lock, str, FinishedImage]:
        """Make the image of a named environment; return its lock, its key and itself."""

        async def make(lock: Lock, watch: Stopwatch) -> tuple[Lock, str, FinishedImage]:
            # what was read with a namespace's credentials is not where everybody's images are, nor is another base
            home = place.repository if lock.spec.owner or lock.spec.base else self.settings.root
            return lock, *await self._image_and_key(lock, progress, watch, home)

        return await self._make_of_lock(job, progress, make, place)

    async def _make_image_of(self, job: Job, progress: Progress) -> tuple[str, FinishedImage]:
        return await self._make_of_lock(job, progress, lambda lock, watch: self._image_and_key(lock, progress, watch))

    async def _make_of_lock(
        self,
        job: Job,
        progress: Progress,
        make: Callable[[Lock, Stopwatch], Awaitable[T]],
        place: Place | None = None,
    ) -> T:
        """Apply `make` to the lock that `job` means.

        A lock that fails is forgotten at once: when the channel is fixed, the next solve notices. A lock that is to
        replace one that still answers does so only when the result is made.
        """
        watch = Stopwatch()
        solved = await self._find_or_solve(job, progress, watch, place)
        try:
            made = await make(solved.lock, watch)
        except BuilderError:
            if not job.lock_key and solved.unrecorded is None:
                await self.catalog.locks.forget_resolution(solved.key)
            raise
        await self._record(job.spec, solved)
        return made

    async def lock(self, job: Job, progress: Progress = show_nothing, place: Place | None = None) -> Lock:
        """Return the lock that `job` names, or the current one of its spec."""
        solved = await self._find_or_solve(job, progress, Stopwatch(), place)
        await self._record(job.spec, solved)
        return solved.lock

    async def preview(self, spec: EnvironmentSpec, place: Place) -> Lock:
        """The lock that a build of now would have. Nothing is recorded. Raises what the solve raises."""
        admission = self.admission.of(place.namespace, place.environment)
        await admission.check_spec(spec)
        glibc, policy = await self._find_glibc(spec), await admission.find_policy()
        logins = await self.logins.find(spec.owner)
        key = self._make_resolution_key(spec, glibc, policy, logins.key)

        async def solve() -> Solved:
            if (found := await self._find_fresh(key, spec, time.time())) is not None:
                return Solved(found)
            return Solved(await self._solve_anew(spec, glibc, policy, logins))

        # by a key of its own: who joins a build's solve would wait for it to be recorded
        solved = await self._solves.do(f"{key} preview", solve)
        await admission.check_lock(solved.lock)
        return solved.lock

    async def check(self, spec: EnvironmentSpec) -> None:
        """Solve `spec` and record nothing. Raises what the solve raises."""
        spec = await self.logins.give_owner(spec, self.settings.root)
        logins = await self.logins.find(spec.owner)
        await self._solve_anew(spec, await self._find_glibc(spec), NO_POLICY, logins)

    async def _find_or_solve(
        self, job: Job, progress: Progress, watch: Stopwatch, place: Place | None = None
    ) -> Solved:
        admission = self.admission.of(place.namespace, place.environment) if place else self.admission
        if job.lock_key:
            document = await self.catalog.locks.find(job.lock_key)
            if document is None:
                raise UnknownLock(job.lock_key, "it was deleted before this build started; pull the tag latest")
            lock = await read_lock(document)
            await admission.check_lock(lock)
            return Solved(lock)
        with watch.stage("solve"):
            progress(Event("solve", 0, 1, " ".join(job.spec.list_wishes())))
            glibc = await self._find_glibc(job.spec)
            await admission.check_spec(job.spec)
            policy = await admission.find_policy()
            logins = await self.logins.find(job.spec.owner)
            key = self._make_resolution_key(job.spec, glibc, policy, logins.key)
            anew = place is not None and place.anew
            solved = await self._solves.do(
                f"{key} anew" if anew else key, lambda: self._solve(key, job.spec, glibc, policy, logins, anew=anew)
            )
            await admission.check_lock(solved.lock)
            progress(Event("solve", 1, 1, f"{sum(map(len, solved.lock.packages.values()))} packages"))
        return solved

    async def _solve(
        self,
        key: str,
        spec: EnvironmentSpec,
        glibc: Mapping[str, str],
        policy: Policy,
        logins: Logins,
        *,
        anew: bool = False,
    ) -> Solved:
        """Return the stored lock while it is fresh, else a new one, recorded unless the old one still answers.

        With `anew` there is always a new one.
        """
        now = time.time()
        resolution = await self.catalog.locks.find_resolution(key)
        if not anew and (fresh := await self._read_fresh(resolution, spec, now)) is not None:
            return Solved(fresh, key)
        lock = await self._solve_anew(spec, glibc, policy, logins)
        if policy.key:
            check_lock(policy, lock, now)
        solved = Solved(lock, key, now)
        if resolution and answers_meanwhile(spec, resolution.solved, self.settings, now):
            return solved
        await self._record(spec, solved)
        return Solved(solved.lock, key)

    async def _solve_anew(
        self, spec: EnvironmentSpec, glibc: Mapping[str, str], policy: Policy, logins: Logins
    ) -> Lock:
        """Solve for conda packages, and then for PyPI packages over these."""
        lock = logins.own(await self.solver.solve(spec, glibc, policy, logins), self.settings.channel_alias)
        if not spec.requirements:
            return lock

        async def find_conda(name: str) -> bool:
            return name in await self.solver.list_package_names(spec, logins)

        solve = PypiSolve(spec, glibc, policy, logins, self.fetch_archives, find_conda)
        return logins.own(await self.pypi.add(lock, solve), self.settings.channel_alias)

    async def _find_fresh(self, key: str, spec: EnvironmentSpec, now: float) -> Lock | None:
        """The stored solution of a spec while it is fresh."""
        return await self._read_fresh(await self.catalog.locks.find_resolution(key), spec, now)

    async def _read_fresh(self, resolution: Resolution | None, spec: EnvironmentSpec, now: float) -> Lock | None:
        if resolution is None or not is_fresh(spec, resolution.solved, self.settings, now):
            return None
        document = await self.catalog.locks.find(resolution.lock_key)
        return await read_lock(document) if document else None

    async def _record(self, spec: EnvironmentSpec, solved: Solved) -> None:
        if solved.unrecorded is None:
            return
        until = spec.until.isoformat() if spec.until else None
        lock_key, text = await write_lock(solved.lock)
        await self.catalog.locks.put_solve(
            solved.key, until, solved.unrecorded, lock_key=lock_key, spec_key=solved.lock.spec.key, document=text
        )

    async def _find_glibc(self, spec: EnvironmentSpec) -> dict[str, str]:
        """Return the version of `__glibc` by platform: the setting's, else the base's."""
        if self.settings.glibc:
            return dict.fromkeys(spec.platforms, self.settings.glibc)
        return _read_glibc(await self.bases.resolve(spec.platforms, spec.base))

    async def _make_file(self, lock: Lock, name: str, watch: Stopwatch) -> str:
        if name not in IMAGE_FILES:
            return await self.artifact(lock, name)

        async def make() -> str:
            key, _ = await self._image(lock, show_nothing, watch, self.settings.root)
            return await record_image_file(name, key, self.catalog, self.blobs)

        return await _retry_when_collected(make)

    async def complete(self, lock: Lock, progress: Progress = show_nothing, place: Place | None = None) -> Lock:
        """Return a lock that somebody sent with what the archives themselves say of its packages.

        The policy is asked about the result. Without this, a lock must not be built: it may call an archive something
        else than it is, and rules judge packages by their names, licences and age. Its packages have their owner, if
        any. Raises ChannelNotAllowed, DownloadFailed, IndexNotAllowed, PackageRefused, RequirementRefused,
        PolicyRefusal.
        """
        await self.catalog.room.look(_estimate_size(lock.packages.values()))
        async with self.stages.downloading():
            archives = await self.fetch_archives(itertools.chain.from_iterable(lock.packages.values()), progress)
        completed = Lock(
            lock.spec,
            {
                platform: order_by_dependency(await self._platforms.complete(packages, archives))
                for platform, packages in lock.packages.items()
            },
        )
        if has_wheels(completed):
            # of thousands of wheels the names alone take seconds
            await asyncio.to_thread(check_lock_of_wheels, completed, await self._find_glibc(lock.spec))
        await (self.admission.of(place.namespace) if place else self.admission).check_lock(completed)
        return completed

    async def artifact(self, lock: Lock, name: str) -> str:
        """Make and record the file `name` of `lock`, and return its key."""
        key = make_artifact_key(lock.key, name)
        if await self.catalog.artifacts.find(key):
            return key

        async def make() -> None:
            await self.catalog.room.look(
                _estimate_size([lock.packages[choose_platform(lock)]]) if name == ARCHIVE else 0
            )
            async with self._take_turn_to_pack(lock, name) as pack:
                artifact = await make_artifact(name, lock, blobs=self.blobs, layers=self.layers.store, pack=pack)
            await self.catalog.artifacts.put(key, lock.key, artifact.to_json(), artifact.digest)

        await _retry_when_collected(make)
        return key

    async def _pack(self, archives: Mapping[str, Path], lock: Lock, platform: str) -> Join:
        packages = lock.packages[platform]
        contents, _ = await self._platforms.inspect(packages, archives, show_nothing)
        self._platforms.find_link_scripts(packages, contents)
        task = await self.pool.run(
            "planning an archive", plan_archive, self.data, lock, platform, archives, self._platforms.limits
        )
        return await pack(task, self.pool, self.settings.archive_seconds)

    @contextlib.asynccontextmanager
    async def _take_turn_to_pack(self, lock: Lock, name: str) -> AsyncIterator[Pack]:
        """Take a turn to pack an archive, once all its packages are downloaded. A text file needs neither."""
        if name != ARCHIVE:
            yield functools.partial(self._pack, {})
            return
        async with self.stages.downloading():
            archives = await self.fetch_archives(lock.packages[choose_platform(lock)])
        async with self.stages.pack.turn():
            yield functools.partial(self._pack, archives)

    async def image(self, lock: Lock, progress: Progress = show_nothing) -> FinishedImage:
        """Return the image of `lock`. Make and record it if it does not exist."""
        return (await self._image_and_key(lock, progress, Stopwatch()))[1]

    async def _image_and_key(
        self, lock: Lock, progress: Progress, watch: Stopwatch, home: str = ""
    ) -> tuple[str, FinishedImage]:
        return await _retry_when_collected(lambda: self._image(lock, progress, watch, home or self.settings.root))

    async def _image(self, lock: Lock, progress: Progress, watch: Stopwatch, home: str) -> tuple[str, FinishedImage]:
        bases = await self.bases.resolve(lock.spec.platforms, lock.spec.base)
        for base in bases.values():
            check_prefix(lock.spec.prefix, base)
        key = self._make_key(lock.key, [bases[platform] for platform in sorted(lock.packages)])
        document = await self.catalog.images.find(key)
        if document:
            return key, FinishedImage.from_json(document["image"])
        return key, await self._images.do(key, lambda: self._make_image(key, lock, bases, progress, watch, home))

    async def _make_image(
        self,
        key: str,
        lock: Lock,
        bases: Mapping[str, BaseImage],
        progress: Progress,
        watch: Stopwatch,
        home: str,
    ) -> FinishedImage:
        await self.catalog.room.look(_estimate_size(lock.packages.values()))
        async with self.stages.downloading():
            with watch.stage("download"):
                archives = await self.fetch_archives(itertools.chain.from_iterable(lock.packages.values()), progress)
        async with self.stages.making_layers(), _temporary_directory(self.data.working) as working:
            platforms = [
                await self._platforms.make(lock, bases[platform], archives, working, progress, watch)
                for platform in sorted(lock.packages)
            ]
        image, pushes = join_platforms(lock, platforms)
        report = BuildReport(watch.seconds, {each.platform: each.report for each in platforms})
        document = {"image": image.to_json(), "report": report.to_json()}
        await self.catalog.images.put(key, lock.key, document, home, pushes)
        progress(Event("image", 1, 1, image.variants[0].digest))
        return image

    def resolution_key(self, spec: EnvironmentSpec, policy: Policy = NO_POLICY, logins: str = "") -> str | None:
        """Return the key of `spec`'s solution under `policy` over the current bases; None while a base is not
        resolved."""
        if self.settings.glibc:
            glibc = dict.fromkeys(spec.platforms, self.settings.glibc)
        elif (bases := self.bases.find(spec.platforms, spec.base)) is not None:
            glibc = _read_glibc(bases)
        else:
            return None
        return self._make_resolution_key(spec, glibc, policy, logins)

    def _make_resolution_key(self, spec: EnvironmentSpec, glibc: Mapping[str, str], policy: Policy, logins: str) -> str:
        return make_resolution_key(spec, glibc, self.settings.channel_alias, policy, logins, self.pypi.key(spec))

    def image_key(self, lock_key: str, platforms: Sequence[str], base: str = "") -> str | None:
        """Return the key of a lock's image over the spec's base as it is now, or None while that is not resolved."""
        bases = self.bases.find(platforms, base)
        return None if bases is None else self._make_key(lock_key, [bases[each] for each in sorted(platforms)])

    def _make_key(self, lock_key: str, bases: Sequence[BaseImage]) -> str:
        return make_key(
            "image",
            {
                "format": IMAGE_FORMAT,
                "lock": lock_key,
                "bases": [[base.platform, base.reference, base.digest] for base in bases],
                "user": self.settings.user,
                "plan": [PLAN_FORMAT, self.popularity.version],
            },
        )

    async def warm(self) -> None:
        """Do what the first build would wait for: start workers, and resolve the bases of the default platforms."""
        await self.pool.warm()
        for base in (await self.bases.resolve(self.settings.platforms)).values():
            check_prefix(self.settings.prefix, base)

    async def fetch_archives(
        self, packages: Iterable[LockedPackage], progress: Progress = show_nothing
    ) -> dict[str, Path]:
        """Return the packages' archives, by archive key. Those that are not local are downloaded in parallel."""
        unique = {package.archive_key: package for package in packages}
        total = sum(package.size or 0 for package in unique.values())
        done = 0
        waiting, paths = iter(unique.values()), dict[str, Path]()

        async def fetch_some() -> None:
            nonlocal done
            for package in waiting:
                paths[package.archive_key] = await self.downloader.fetch(
                    package, logins=await self.logins.find(package.owner)
                )
                done += package.size or 0
                progress(Event("download", done, total, str(package)))

        # no more of one build in line than it can use: each choice of a turn searches the whole line
        await gather_all(fetch_some() for _ in range(2 * self.settings.downloads))
        return {key: paths[key] for key in unique}


def _read_glibc(bases: Mapping[str, BaseImage]) -> dict[str, str]:
    return {platform: glibc for platform, base in bases.items() if (glibc := base.glibc)}


def _estimate_size(packages: Iterable[Iterable[LockedPackage]]) -> int:
    """Return the bytes that the result of packages has at least: half of theirs, as both are compressed."""
    unique = {package.archive_key: package.size or 0 for each in packages for package in each}
    return sum(unique.values()) // 2


async def _retry_when_collected(make: Callable[[], Awaitable[T]]) -> T:
    """Call `make`, again if parts that it needed were deleted as garbage meanwhile. Raises StorageUnavailable.

    Whatever still exists is found again, so only what is gone is made again.
    """
    for _ in range(ATTEMPTS):
        try:
            return await make()
        except (BlobUnknown, FragmentsGone, ManifestBlobUnknown) as error:
            gone = error
    raise StorageUnavailable("the builder's blobs", "the results are deleted before they can be used") from gone


@contextlib.asynccontextmanager
async def _temporary_directory(parent: Path) -> AsyncIterator[Path]:
    cleanup = contextlib.ExitStack()
    directory = await asyncio.to_thread(cleanup.enter_context, temporary_directory(parent))
    try:
        yield directory
    finally:
        await asyncio.to_thread(cleanup.close)
