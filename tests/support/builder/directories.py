"""Environments on disk, from packages that are at hand."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from builder.archives.archive import DEFAULT_LIMITS, ArchiveLimits
from builder.environments.directories.directories import Directories
from builder.environments.directories.settings import DirectorySettings
from builder.locks.lock import Lock, LockedPackage, order_by_dependency
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.work.pool import WorkerPool
from storage.layout import DataDirectory
from tests.support.builder.packages import Made

PLATFORM = "linux-64"


async def fetch_local(packages: Sequence[LockedPackage]) -> Mapping[str, Path]:
    """Find the archives of packages of `file://` channels."""
    return {package.archive_key: Path(unquote(urlsplit(package.url).path)) for package in packages}


def lock_of(packages: Sequence[Made]) -> Lock:
    records = order_by_dependency(made.record for made in packages)
    spec = EnvironmentSpec(
        items=tuple(PackageItem(name) for name in sorted(record.name for record in records)),
        channels=(records[0].channel,),
    )
    return Lock(spec, {PLATFORM: records})


@contextlib.asynccontextmanager
async def open_directories(
    tmp_path: Path,
    *,
    root: Path | None = None,
    fetch: Any = fetch_local,
    limits: ArchiveLimits = DEFAULT_LIMITS,
    refuse_scripts: bool = False,
    pool: WorkerPool | None = None,
    **settings: Any,
) -> AsyncIterator[Directories]:
    """Open the directories below `<tmp_path>/envs`, with the cache in `<tmp_path>/data`."""
    chosen = DirectorySettings(environments_directory=root or tmp_path / "envs", **settings)
    data = DataDirectory(tmp_path / "data")
    async with contextlib.AsyncExitStack() as stack:
        workers = pool if pool is not None else await stack.enter_async_context(WorkerPool(2))
        opened = await stack.enter_async_context(
            Directories.open(chosen, data, workers, fetch, limits=limits, refuse_scripts=refuse_scripts)
        )
        assert opened is not None
        yield opened
