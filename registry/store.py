"""What a data directory holds, opened: the catalog and the blobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from storage.blobs import FileBlobStore
from storage.catalog import Catalog
from storage.database import migrate, sqlite_url


@dataclass(frozen=True)
class Store:
    catalog: Catalog
    blobs: FileBlobStore


@contextlib.asynccontextmanager
async def open_store(directory: Path) -> AsyncIterator[Store]:
    """The data directory `directory`, made if it is missing; other processes may have it open at the same time."""
    directory.mkdir(parents=True, exist_ok=True)
    url = sqlite_url(directory / "condery.sqlite")
    await asyncio.to_thread(migrate, url)
    catalog = Catalog.open(url)
    try:
        yield Store(catalog, FileBlobStore(directory))
    finally:
        await catalog.close()
