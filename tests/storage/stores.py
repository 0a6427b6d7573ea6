"""Database, blobs and catalog over a directory of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from storage import tables
from storage.blobs import BlobStore, StoredBlob, stored_blob
from storage.catalog import Catalog
from storage.database import Database, migrate, sqlite_url
from storage.digest import Digest
from storage.joins import FragmentPart
from storage.objects import FileObjects, ObjectStore


@dataclass(frozen=True)
class Stores:
    root: Path
    database: Database
    objects: ObjectStore
    blobs: BlobStore
    catalog: Catalog

    async def rows(self, query: Any) -> Sequence[Any]:
        async with self.database.reading() as connection:
            return (await connection.execute(query)).all()

    async def stored(self) -> list[StoredBlob]:
        return [stored_blob(row) for row in await self.rows(select(tables.blob))]

    async def pending(self) -> list[str]:
        return [row.key for row in await self.rows(select(tables.pending))]

    def files(self) -> list[str]:
        """The names of all that is in the store of objects."""
        return sorted(path.name for path in (self.root / "blobs").rglob("*") if path.is_file())

    def fragment(self, key: str, data: bytes) -> FragmentPart:
        path = self.blobs.fragment_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return FragmentPart(key, len(data))

    async def content(self, digest: Digest) -> bytes:
        return await self.blobs.content(digest)


@contextlib.asynccontextmanager
async def open_stores(
    root: Path, *, joins: bool = True, objects: ObjectStore | None = None, url: str | None = None
) -> AsyncIterator[Stores]:
    """SQLite and files below `root`, unless others are given."""
    root.mkdir(parents=True, exist_ok=True)
    url = url or sqlite_url(root / "condery.sqlite")
    await asyncio.to_thread(migrate, url)
    database = Database.open(url)
    objects = objects or FileObjects(root / "blobs")
    try:
        yield Stores(
            root, database, objects, BlobStore(database, objects, root / "fragments", joins=joins), Catalog(database)
        )
    finally:
        await database.close()
