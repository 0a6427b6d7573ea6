"""A builder over a data directory of its own, and small channels for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from rattler.index import index_fs

from builder.names import parse_specs
from builder.service import BuilderService
from builder.settings import BuilderSettings
from builder.spec import EnvironmentSpec
from storage.blobs import FileBlobStore
from storage.catalog import Catalog
from storage.database import migrate, sqlite_url
from tests.builder.packages import Package


async def make_channel(directory: Path, packages: Sequence[Package]) -> str:
    """An indexed channel with `packages`; its URL."""
    for package in packages:
        package.conda(directory)
    (directory / "noarch").mkdir(parents=True, exist_ok=True)
    await index_fs(directory, write_zst=True, write_shards=True)
    return directory.as_uri()


@contextlib.asynccontextmanager
async def open_service(root: Path, channel: str, **settings: Any) -> AsyncIterator[BuilderService]:
    root.mkdir(parents=True, exist_ok=True)
    url = sqlite_url(root / "condery.sqlite")
    migrate(url)
    catalog = Catalog.open(url)
    values: dict[str, Any] = {"base": "scratch", "repodata_refresh": 0, "workers": 2} | settings
    try:
        chosen = BuilderSettings(channels=(channel,), **values)
        async with BuilderService.open(chosen, root, catalog, FileBlobStore(root)) as service:
            yield service
    finally:
        await catalog.close()


def spec_of(service: BuilderService, *specs: str) -> EnvironmentSpec:
    return parse_specs(specs, service.builder.settings)
