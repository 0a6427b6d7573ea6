"""Layers and other blobs that are joins of fragments: finding them and recording new ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.joins import Join, Layer
from storage.blobs.rows import StoredBlob, dump_parts, touch
from storage.blobs.store import BlobStore
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Digest
from storage.disk.files import sync_directory, sync_file, translate_errors
from storage.errors import FragmentsGone, ObjectMissing

SYNC_THREADS = 8
"""A disk takes several flushes at once in little more time than one."""

FRAGMENTS_LOCK = "fragments"
"""The lock held while joins of fragments are made, and while fragments that no join needs are evicted."""


@dataclass(frozen=True, slots=True)
class KnownLayer:
    digest: Digest
    size: int
    diff_id: Digest
    uncompressed_size: int


class LayerStore:
    """The joins in `blobs`, which decides whether they stay lists or are written out as objects.

    All methods raise StorageUnavailable and StorageFull.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._database = blobs.database
        self._syncing = ThreadPoolExecutor(SYNC_THREADS, "condery-sync")

    async def find(self, keys: Sequence[str]) -> dict[str, KnownLayer]:
        """Find layers that are already stored. The garbage collection keeps them for its grace time."""
        layer, blob = tables.layer, tables.blob
        query = (
            select(layer, blob.c.size).join(blob, blob.c.digest == layer.c.digest).where(layer.c.key.in_(keys))
        )  # fmt: skip
        async with self._database.writing() as connection:
            rows = (await connection.execute(query)).all()
            await touch(connection, [row.digest for row in rows])
        return {
            row.key: KnownLayer(Digest(row.digest), row.size, Digest(row.diff_id), row.uncompressed_size)
            for row in rows
        }

    async def put_join(self, join: Join) -> None:
        """Store a blob made of fragments; raises FragmentsGone."""
        await self._write_join(join)
        if self._blobs.keeps_joins:
            async with self._database.writing() as connection:
                await self._record_joins(connection, [join])

    async def write(self, layer: Layer) -> None:
        """Put the bytes of `layer` on stable storage, before `record`; raises FragmentsGone."""
        await self._write_join(layer.join)

    async def record(self, layers: Sequence[Layer]) -> None:
        """Record written layers, all or none; raises FragmentsGone if the bytes of one are gone."""
        async with self._database.writing() as connection:
            if self._blobs.keeps_joins:
                await self._record_joins(connection, [layer.join for layer in layers])
            await self._insert_layers(connection, layers)

    async def _write_join(self, join: Join) -> None:
        if self._blobs.keeps_joins:
            await asyncio.to_thread(self._sync_fragments, join.fragments)
            return
        try:
            await self._blobs.put(join.digest, self._blobs.read(StoredBlob(join.digest, join.size, None, join.parts)))
        except (ObjectMissing, FileNotFoundError):
            raise FragmentsGone(join.fragments) from None

    async def _record_joins(self, connection: AsyncConnection, joins: Sequence[Join]) -> None:
        await self._database.lock(connection, FRAGMENTS_LOCK)
        keys = sorted({key for join in joins for key in join.fragments})
        missing = [key for key in keys if not self._blobs.fragment_path(key).exists()]
        if missing:
            raise FragmentsGone(missing)
        await _register_joins(self._database, connection, joins)

    async def _insert_layers(self, connection: AsyncConnection, layers: Sequence[Layer]) -> None:
        rows = [
            {
                "key": layer.key,
                "digest": layer.join.digest,
                "diff_id": layer.diff_id,
                "uncompressed_size": layer.uncompressed_size,
            }
            for layer in sorted(layers, key=lambda layer: layer.key)
        ]
        await connection.execute(self._database.insert(tables.layer).on_conflict_do_nothing(), rows)

    def _sync_fragments(self, keys: Iterable[str]) -> None:
        """Flush fragments to disk: they are a cache and written without a flush, but a layer relies on them."""
        paths = [self._blobs.fragment_path(key) for key in keys]
        with translate_errors(self._blobs.fragments):
            list(self._syncing.map(_if_there(sync_file), paths))
            list(self._syncing.map(_if_there(sync_directory), {path.parent for path in paths}))


async def _register_joins(database: Database, connection: AsyncConnection, joins: Sequence[Join]) -> None:
    """Record the parts of each digest that has no bytes yet, and the fragments that it needs."""
    now = time.time()
    table = tables.blob
    # in the order in which every transaction locks rows
    rows = [
        {"digest": join.digest, "size": join.size, "parts": dump_parts(join.parts), "created": now, "used": now}
        for join in sorted(joins, key=lambda join: join.digest)
    ]
    statement = database.insert(table).on_conflict_do_update(index_elements=["digest"], set_={"used": now})
    await connection.execute(statement, rows)
    digests = {join.digest for join in joins}
    query = select(table.c.digest).where(table.c.digest.in_(digests), table.c.key.is_(None))
    joined = set((await connection.execute(query)).scalars())
    uses = sorted({(key, join.digest) for join in joins if join.digest in joined for key in join.fragments})
    if uses:
        await connection.execute(
            database.insert(tables.fragment_use).on_conflict_do_nothing(),
            [{"fragment": key, "digest": digest} for key, digest in uses],
        )


def _if_there(function: Callable[[Path], None]) -> Callable[[Path], None]:
    def call(path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            function(path)

    return call
