"""Puts the parts of the PyPI resolver together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from builder.archives.archive import ArchiveLimits
from builder.channels.channel import Credentials
from builder.channels.download import Downloader
from builder.channels.index_policy import IndexPolicy
from builder.channels.logins import Logins
from builder.pypi.client import IndexClient
from builder.pypi.resolver import PypiFolders, PypiResolver, make_unlocked
from builder.pypi.view import Link
from builder.pypi.wheel_metadata import WheelMetadata
from builder.settings import BuilderSettings
from builder.work.pool import WorkerPool
from builder.work.turns import Lane
from storage.layout import DataDirectory


def open_pypi(
    settings: BuilderSettings,
    data: DataDirectory,
    policy: IndexPolicy,
    credentials: Credentials,
    pool: WorkerPool,
    downloader: Downloader,
    popular: Iterable[str],
) -> PypiResolver:
    """Who opens it closes it."""
    folders = PypiFolders(data.pypi, data.contents, data.working)
    client = IndexClient(policy, credentials, pool, settings.pypi_index_seconds, settings.pypi_page_size)

    async def fetch_wheel(index: str, link: Link, logins: Logins) -> Path:
        package = logins.own_package(make_unlocked(index, link), settings.channel_alias)
        return await downloader.fetch(package, logins=logins)

    limits = ArchiveLimits(settings.max_expanded, settings.max_ratio, settings.max_paths)
    metadata = WheelMetadata(folders.metadata, client, pool, fetch_wheel)
    turns = Lane(settings.workers, extra=1, what="a turn to solve PyPI packages")
    return PypiResolver(
        folders, policy, client, metadata, pool, limits, popular, turns, settings.pypi_seconds, settings.pypi_memory
    )
