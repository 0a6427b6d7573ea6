"""The builder as one object to open and close: solver, downloads, workers, queue, and what clients may ask for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import structlog

from builder.artifacts.referrers import Referrers
from builder.base.chosen import ChosenBases
from builder.base.opening import open_base
from builder.base.shared import SharedBase
from builder.build import Builder
from builder.channels.channel import Credentials
from builder.channels.download import Downloader, DownloadSettings
from builder.channels.logins import NamespaceCredentials, NamespaceLogins
from builder.channels.patterns import Others
from builder.channels.policy import ChannelPolicy
from builder.demand import Demand
from builder.environments.at_hand import AtHand
from builder.environments.handles import Handles
from builder.environments.inputs.input import InputSettings
from builder.environments.journal import Journals
from builder.environments.life import NamedEnvironments
from builder.environments.previews import Previews
from builder.environments.repetition import Repetitions
from builder.environments.settings import SettingsOfEnvironments
from builder.environments.wanted import Wanted
from builder.environments.work import EnvironmentWork
from builder.errors import BuildFailed
from builder.image.finished import FinishedImage
from builder.layers.assembly import Layers
from builder.layers.popularity import Popularity
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec
from builder.policy.admission import Admission
from builder.policy.policies import Policies
from builder.policy.settings import PolicySettings
from builder.progress import Progress, show_nothing
from builder.pypi.opening import open_pypi
from builder.queue.embedded import EmbeddedQueue
from builder.queue.ended import Announce
from builder.queue.hooks import Hooks, find_no_room
from builder.queue.job import Job
from builder.queue.protocol import BuildQueue, CompletedBuild
from builder.remote.logins import read_logins
from builder.search.index_file import Written
from builder.search.indexes import Indexes
from builder.search.package import SearchedChannel
from builder.search.search import PackageSearch
from builder.settings import BuilderSettings
from builder.solve.lanes import Solving, SolvingSettings
from builder.solve.own import OwnSolvers
from builder.solve.settings import SolverSettings
from builder.stages import Stages
from builder.work.claims import Claim, on_behalf_of
from builder.work.pool import HEAVY_NICENESS, WorkerPool
from storage.blobs.blocking import StoreInThreads
from storage.blobs.layers import LayerStore
from storage.blobs.store import BlobStore
from storage.catalog.credentials import NoCredentials
from storage.catalog.parts import Catalog
from storage.disk.files import make_folders, remove_leftovers
from storage.environments.log_writing import LogWriters
from storage.environments.parts import EnvironmentStore
from storage.errors import ConderyError
from storage.events.outbox import Record
from storage.layout import DataDirectory

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BuilderService:
    """`demand` serves clients that wait, `builder` serves the command line, which watches. `packages` are searched."""

    builder: Builder
    queue: BuildQueue
    demand: Demand
    packages: PackageSearch
    referrers: Referrers
    environments: NamedEnvironments | None = None

    async def build(self, spec: EnvironmentSpec, progress: Progress = show_nothing) -> FinishedImage:
        """Build the image of `spec` here and now. Raises BuilderError, StorageError."""
        with on_behalf_of(Claim(lasting=True)):
            return await self.builder.image_of(spec, progress)

    async def build_lock(self, lock: Lock, progress: Progress = show_nothing) -> FinishedImage:
        """Build the image of a lock that somebody wrote, with what the archives say of themselves.

        Raises BuilderError, StorageError.
        """
        builder = self.builder
        with on_behalf_of(Claim(lasting=True)):
            spec = await builder.logins.give_owner(lock.spec, builder.settings.root)
            lock = await builder.complete(await builder.logins.own(replace(lock, spec=spec)), progress)
            await builder.catalog.locks.put(lock.key, lock.spec.key, lock.to_json())
            return await builder.image(lock, progress)

    async def lock(self, spec: EnvironmentSpec, progress: Progress = show_nothing) -> Lock:
        """Return the lock of `spec`: the stored one while it is fresh, else a new one."""
        builder = self.builder
        spec = await builder.logins.give_owner(spec, builder.settings.root)
        return await builder.lock(Job("image", spec), progress)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: BuilderSettings,
        root: Path,
        catalog: Catalog,
        blobs: BlobStore,
        *,
        others: Others = "none",
        resume: bool = False,
        announce: Announce | None = None,
        rules: PolicySettings | None = None,
        changed: Callable[[], None] = lambda: None,
        credentials: NamespaceCredentials | None = None,
        environments: EnvironmentStore | None = None,
        make_room: Callable[[], bool] = find_no_room,
    ) -> AsyncIterator[Self]:
        """Open the builder on the data directory `root`. With `resume`, it resumes what a dead server left unfinished.

        `others` says which channels besides those in the settings may be read. `announce` is called for every build
        that ends here. `rules` say what environments may hold, beside what their namespace says; `changed` is called
        when the deny list is another. `credentials` are those of namespaces, and `environments` what is stored of named
        environments, without which there are none. `make_room` gives up what is reserved on a full disk, so that the
        end of a build can be recorded. Closing leaves unfinished builds to be resumed. Raises BaseUnavailable for a
        base that makes no sense, and what `Solver` and `Credentials` raise.
        """
        data = DataDirectory(root)
        channels = settings.make_channel_policy(others)
        clear = await _prepare_folders(data)
        logins = NamespaceLogins(credentials or NoCredentials(), settings.channel_alias, settings.pypi_indexes)
        async with contextlib.AsyncExitStack() as stack:
            policies = await stack.enter_async_context(
                Policies.open(
                    rules or PolicySettings(), settings.channel_alias, catalog.policies, data.policy,
                    Credentials.read(settings.credentials), changed,
                    environments.settings if environments else None,
                )
            )  # fmt: skip
            admission = Admission(policies, catalog.locks, settings.root)
            builder = await _open_builder(stack, settings, data, catalog, blobs, channels, admission, logins, clear)

            wanted = _open_wanted(settings, builder, environments, channels) if environments else None
            at_hand = AtHand()
            work = _open_work(stack, builder, environments, wanted, at_hand) if environments and wanted else None

            async def run(job: Job) -> str:
                return await (work.run(job) if work and job.kind == "environment" else builder.run(job))

            async def tell(
                job: Job, build_id: str, seconds: float, end: CompletedBuild | BuildFailed
            ) -> Record[None] | None:
                if work and job.kind == "environment":
                    return await work.describe_end(job, build_id, seconds, end, announce)
                return announce(await demand.describe_end(job, build_id, seconds, end)) if announce else None

            queue = EmbeddedQueue(catalog.builds, run, settings, tell, _choose_hooks(builder, work, make_room))
            demand = Demand(
                settings, catalog, queue, builder.image_key, builder.resolution_key, channels, admission, logins
            )
            stack.push_async_callback(demand.close)
            stack.push_async_callback(queue.close)
            packages = _open_search(settings, data, channels, builder.solver)
            stack.push_async_callback(packages.close)
            referrers = Referrers(catalog, blobs)
            stack.push_async_callback(referrers.close)
            named = None
            if environments and wanted:
                previews = Previews(wanted, builder, channels, queue)
                handles = Handles(builder, channels, queue)
                named = NamedEnvironments(
                    environments, builder, queue, channels, demand, wanted, previews, handles, at_hand
                )
            service = cls(builder, queue, demand, packages, referrers, named)
            if resume:
                await stack.enter_async_context(service._serving(clear))
            yield service

    @contextlib.asynccontextmanager
    async def _serving(self, clear: Callable[[Callable[[], bool]], int]) -> AsyncIterator[None]:
        """Resume what a dead server left, and get ready for builds beside the block."""
        await self.queue.start()
        keeping = self.environments.keeping() if self.environments else contextlib.nullcontext()
        warming = asyncio.create_task(_warm(self.builder))
        try:
            async with keeping, _tidying(clear):
                yield
        finally:
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)


def _open_wanted(
    settings: BuilderSettings, builder: Builder, store: EnvironmentStore, channels: ChannelPolicy
) -> Wanted:
    bases = (settings.base, *settings.allowed_bases)
    chosen = SettingsOfEnvironments(store.settings, channels, InputSettings.of(settings), bases)
    return Wanted(store, builder.catalog.locks, builder.logins, chosen)


def _open_work(
    stack: contextlib.AsyncExitStack, builder: Builder, store: EnvironmentStore, wanted: Wanted, at_hand: AtHand
) -> EnvironmentWork:
    writers = LogWriters(store.logs)
    stack.push_async_callback(writers.close)
    repetitions = Repetitions(builder, store, wanted)
    return EnvironmentWork(builder, store, Journals(writers), wanted, at_hand, repetitions)


def _choose_hooks(builder: Builder, work: EnvironmentWork | None, make_room: Callable[[], bool]) -> Hooks:
    """Those of environments' builds for their jobs, and only a turn for all others."""

    def turn(job: Job) -> contextlib.AbstractAsyncContextManager[None]:
        return work.turn(job) if work and job.kind == "environment" else builder.stages.begun.turn()

    async def known(job: Job) -> str | None:
        return await work.find_known(job) if work and job.kind == "environment" else None

    def begins(job: Job) -> Record[None] | None:
        return work.record_beginning(job) if work and job.kind == "environment" else None

    def ended(job: Job) -> None:
        if work and job.kind == "environment":
            work.note_ended(job)

    return Hooks(turn, known, begins, ended, make_room)


async def _prepare_folders(data: DataDirectory) -> partial[int]:
    """Make the folders of what is written often, and return what removes the leftovers of interrupted writes."""
    spread = (data.contents, data.fragments)
    # their files are spread over 256 folders, made once here rather than checked at every write
    for folder in spread:
        await asyncio.to_thread(make_folders, folder)
    return partial(remove_leftovers, [*spread, data.packages, data.bases, data.working, data.own_repodata, data.search])


async def _open_builder(
    stack: contextlib.AsyncExitStack,
    settings: BuilderSettings,
    data: DataDirectory,
    catalog: Catalog,
    blobs: BlobStore,
    policy: ChannelPolicy,
    admission: Admission,
    logins: NamespaceLogins,
    clear: Callable[[], object],
) -> Builder:
    """Open the builder with its processes; `stack` closes it. `clear` is called when a worker has died."""
    credentials = Credentials.read(settings.credentials)
    bases = _open_bases(stack, settings, data, catalog, blobs)
    solving, lanes = _make_solver_settings(settings, data, policy), _make_solving_settings(settings)
    shared = await stack.enter_async_context(Solving(solving, lanes))
    solver = OwnSolvers(shared, solving, lanes, data.own_repodata)
    stack.push_async_callback(solver.close)
    downloads = _make_download_settings(settings, data, policy)
    downloader = await stack.enter_async_context(Downloader(downloads, credentials, solver.download))
    pool = await _open_workers(stack, settings, clear)
    layers, popularity = Layers(LayerStore(blobs), pool), Popularity.load_shipped()
    pypi = open_pypi(settings, data, policy.indexes, credentials, pool, downloader, popularity.usages)
    stack.push_async_callback(pypi.close)
    builder = Builder(
        settings, data, catalog, blobs, layers, solver, pypi, downloader, pool, bases, popularity,
        Stages.of(settings), admission, logins,
    )  # fmt: skip
    stack.push_async_callback(builder.close)
    return builder


async def _open_workers(
    stack: contextlib.AsyncExitStack, settings: BuilderSettings, clear: Callable[[], object]
) -> WorkerPool:
    memory = settings.worker_memory
    heavy = await stack.enter_async_context(WorkerPool(settings.workers, clear, memory, HEAVY_NICENESS))
    return await stack.enter_async_context(WorkerPool(settings.workers, clear, memory, heavy=heavy))


def _open_bases(
    stack: contextlib.AsyncExitStack,
    settings: BuilderSettings,
    data: DataDirectory,
    catalog: Catalog,
    blobs: BlobStore,
) -> ChosenBases:
    """Open the server's base, and those that environments may have instead."""
    base_blobs = StoreInThreads(blobs)
    stack.callback(base_blobs.close)
    logins = read_logins(settings.credentials) if settings.credentials else {}

    def open_one(reference: str) -> SharedBase:
        shared = SharedBase(
            open_base(
                reference,
                blobs=base_blobs,
                pins=catalog.bases,
                directory=data.bases,
                logins=logins,
                insecure=settings.insecure_registries,
            )
        )
        stack.push_async_callback(shared.close)
        return shared

    return ChosenBases(open_one(settings.base), {each: open_one(each) for each in settings.allowed_bases})


def _open_search(
    settings: BuilderSettings, data: DataDirectory, policy: ChannelPolicy, solver: OwnSolvers
) -> PackageSearch:
    """Nothing is read before somebody searches."""
    channels = [SearchedChannel(name, url) for url, name in policy.list_named().items()]
    platforms = list(dict.fromkeys([*settings.platforms, "noarch"]))

    async def make(channel: str, path: Path, seconds: float) -> Written:
        return await solver.shared.list_packages(channel, platforms, path, seconds)

    return PackageSearch(channels, policy.alias, Indexes(data.search, make, settings.search_refresh))


def _make_solver_settings(settings: BuilderSettings, data: DataDirectory, policy: ChannelPolicy) -> SolverSettings:
    return SolverSettings(
        repodata=data.repodata,
        policy=policy,
        credentials=settings.credentials,
        seconds=settings.solve_seconds,
        memory=settings.solve_memory,
        refresh=settings.repodata_refresh,
        repodata_size=settings.repodata_size,
        repodata_disk=settings.repodata_disk,
        repodata_channels=settings.repodata_channels,
    )


def _make_solving_settings(settings: BuilderSettings) -> SolvingSettings:
    return SolvingSettings(quick=settings.quick_solve_seconds, load=settings.channel_seconds, long=settings.long_solves)


def _make_download_settings(settings: BuilderSettings, data: DataDirectory, policy: ChannelPolicy) -> DownloadSettings:
    return DownloadSettings(
        data.archives,
        policy,
        settings.downloads,
        settings.download_seconds,
        settings.download_least,
        settings.build_download_seconds,
    )


@contextlib.asynccontextmanager
async def _tidying(clear: Callable[[Callable[[], bool]], int]) -> AsyncIterator[None]:
    """Remove what killed processes left, in a thread beside the block.

    Nobody waits for it, and it ends with the block.
    """
    stopped = threading.Event()

    def tidy() -> None:
        if removed := clear(stopped.is_set):
            log.info("leftovers of interrupted writes removed", count=removed)

    task = asyncio.create_task(asyncio.to_thread(tidy))
    try:
        yield
    finally:
        stopped.set()
        await task


async def _warm(builder: Builder) -> None:
    try:
        await builder.warm()
    except ConderyError as error:
        log.warning("not ready to build yet", reason=str(error))
