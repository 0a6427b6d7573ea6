"""What a server does about environments that nobody asked for: its jobs, and their directories on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from builder.archives.archive import ArchiveLimits
from builder.environments.directories.directories import Directories
from builder.environments.jobs import EnvironmentJobs
from builder.environments.on_disk import OnDisk
from builder.service import BuilderService
from registry.settings.model import Settings
from storage.database.leases import Leases
from storage.environments.upkeep import EnvironmentUpkeep
from storage.layout import DataDirectory
from storage.store import Store


@contextlib.asynccontextmanager
async def keeping_environments(settings: Settings, store: Store, service: BuilderService) -> AsyncIterator[None]:
    """Do the jobs of environments, and keep their directories, while the block runs."""
    if service.environments is None:
        yield
        return
    upkeep, leases = EnvironmentUpkeep(store.database), Leases(store.database)
    jobs = EnvironmentJobs(service.environments, upkeep, leases, settings.upkeep.deleted_retention)
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
        async with OnDisk(directories, upkeep, builder, data.directories).running():
            yield
