"""The open store: the database, the blobs, and everything kept in both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from storage.blobs.store import BlobStore
from storage.catalog.made import Made
from storage.catalog.parts import Catalog
from storage.database.engine import Database, database_url, migrate
from storage.disk.privacy import make_private
from storage.disk.reserve import Reserve
from storage.environments.parts import EnvironmentStore
from storage.events.announcements import listening
from storage.events.changes import Changes
from storage.layout import DataDirectory
from storage.objects.files import FileObjects
from storage.objects.opening import open_objects
from storage.quotas.limits import Limits
from storage.repositories.pushed import Repositories
from storage.repositories.uploads import Uploads
from storage.settings import StorageSettings


@dataclass(frozen=True)
class Store:
    database: Database
    changes: Changes
    blobs: BlobStore
    catalog: Catalog
    repositories: Repositories
    uploads: Uploads
    reserve: Reserve
    environments: EnvironmentStore


@contextlib.asynccontextmanager
async def open_store(settings: StorageSettings, limits: Limits | None = None) -> AsyncIterator[Store]:
    """Open the data directory, created if it is missing, and the database and bucket; others may have them open too.

    Raises StorageUnavailable.
    """
    data = DataDirectory(settings.data_directory)
    make_private(data.root)
    reserve = Reserve(data.root)
    reserve.prepare()
    url = database_url(settings.database, data.root)
    await asyncio.to_thread(migrate, url)
    database = Database.open(url)
    changes = Changes(data.changes)
    # a process that died may not have marked a change that it committed
    changes.mark_all()
    objects = open_objects(settings, floor=reserve.size // 2)
    blobs = BlobStore(database, objects, data.fragments, joins=isinstance(objects, FileObjects))
    repositories = Repositories(database, changes, limits)
    try:
        async with listening(url, changes):
            uploads = Uploads(blobs, repositories, settings.uploads_per_caller)
            catalog = Catalog.of(
                database, Made(database, limits, changes.mark), changes.mark, changes.stamp_of_namespace
            )
            environments = EnvironmentStore.of(blobs, changes, repositories.room, limits)
            yield Store(database, changes, blobs, catalog, repositories, uploads, reserve, environments)
    finally:
        await database.close()
