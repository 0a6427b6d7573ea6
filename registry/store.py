"""What is at rest, opened: the database, the blobs, and what is kept in both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from storage.blobs import BlobStore
from storage.catalog import Catalog
from storage.changes import Changes
from storage.database import Database, database_url, migrate
from storage.limits import Limits
from storage.objects import FileObjects
from storage.repositories import Repositories
from storage.uploads import Uploads


@dataclass(frozen=True)
class Store:
    database: Database
    changes: Changes
    blobs: BlobStore
    catalog: Catalog
    repositories: Repositories
    uploads: Uploads


@contextlib.asynccontextmanager
async def open_store(directory: Path, limits: Limits | None = None) -> AsyncIterator[Store]:
    """The data directory `directory`, made if it is missing; other processes may have it open at the same time."""
    directory.mkdir(parents=True, exist_ok=True)
    url = database_url(None, directory)
    await asyncio.to_thread(migrate, url)
    database = Database.open(url)
    changes = Changes(directory / "changes")
    # a process that died may have committed a change that it did not mark
    changes.mark_all()
    blobs = BlobStore(database, FileObjects(directory / "blobs"), directory / "fragments")
    repositories = Repositories(database, changes, limits)
    try:
        yield Store(
            database,
            changes,
            blobs,
            Catalog(database),
            repositories,
            Uploads(blobs, repositories),
        )
    finally:
        await database.close()
