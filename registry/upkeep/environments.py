"""What a server does about environments that nobody asked for: its jobs, and their directories on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncConnection

from auth.audit.actor import Actor
from auth.audit.log import append, name_build
from builder.archives.archive import ArchiveLimits
from builder.environments.directories.directories import Directories
from builder.environments.jobs import EnvironmentJobs
from builder.environments.on_disk import OnDisk
from builder.environments.watching.watching import OURSELVES, EnvironmentWatching
from builder.service import BuilderService
from registry.access.names import names_of
from registry.settings.model import Settings
from registry.webhooks.notifier import Notifier
from storage.database.leases import Leases
from storage.environments.vocabulary import EnvironmentBuild
from storage.layout import DataDirectory
from storage.store import Store


@contextlib.asynccontextmanager
async def watching_files(settings: Settings, store: Store, service: BuilderService) -> AsyncIterator[None]:
    """Build the environment files of the setting `watch` while the block runs, when they change."""
    if service.environments is None or not settings.watching.watch or settings.upkeep.read_only:
        yield
        return
    names = names_of(settings.access, settings.workload, settings.builder.root)
    for entry in settings.watching.entries:
        names.check("a namespace", entry.namespace)

    async def record(connection: AsyncConnection, build: EnvironmentBuild) -> None:
        actor = Actor(OURSELVES, "operator", detail={"cause": build.cause})
        await append(connection, actor.did(name_build(build), build.repository, build=build.id))

    leases = Leases(store.database)
    async with EnvironmentWatching(service.environments, leases, settings.watching, record).running():
        yield


@contextlib.asynccontextmanager
async def keeping_environments(
    settings: Settings, store: Store, service: BuilderService, notifier: Notifier | None = None
) -> AsyncIterator[None]:
    """Do the jobs of environments, and keep their directories, while the block runs; webhooks are told of alarms."""
    if service.environments is None:
        yield
        return
    upkeep, leases = store.environments.upkeep, Leases(store.database)
    tell = notifier.alarm_recorder if notifier else None
    jobs = EnvironmentJobs(service.environments, upkeep, leases, settings.upkeep.deleted_retention, tell)
    builder, data = service.builder, DataDirectory(settings.data_directory)
    limits = ArchiveLimits(settings.builder.max_expanded, settings.builder.max_ratio, settings.builder.max_paths)
    async with (
        jobs.running(),
        Directories.open(
            settings.directories,
            data,
            builder.pool,
            builder.fetch_archives,
            workers=settings.builder.workers,
            limits=limits,
            refuse_scripts=settings.builder.refuse_scripts,
        ) as directories,
    ):
        if directories is None:
            yield
            return
        async with OnDisk(directories, upkeep, store.environments.on_disk, builder, data.directories).running():
            yield
