"""Content-addressed bytes: the database says which digests there are, an object store has their bytes.

A layer is a join of fragments, and a fragment is in many layers, so beside files a *join* is kept as the list of its
parts rather than their copy: small runs of bytes inline, and files of the `fragments` folder by name. To a reader a
join is a blob like any other. Stores that are not local get the joined bytes as one object.

Nothing in the object store is ever unknown to the database: a key is recorded as pending before a byte is written
under it, and the transaction that makes it the bytes of a digest takes that record away. What stays pending past its
time belongs to nobody and is deleted, with no need to look through the store.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.joins import FragmentPart, Join, Layer, Part
from storage.cancellation import to_end
from storage.database import tables
from storage.database.engine import Database, batches
from storage.digest import Digest
from storage.disk.files import known_errors, sync_directory, sync_file
from storage.errors import BlobUnknown, DigestMismatch, FragmentsGone, ObjectMissing, StorageError, WriteExpired
from storage.layout import fragment_path
from storage.objects.objects import FileRange, ObjectStore, Segment, cut, new_key, read_segment, writing

WRITE_SECONDS = 24 * 3600.0
"""How long the writing of one object may take."""

BLOB_LINGER_SECONDS = 60.0
"""From the deletion of a blob to that of its bytes, for those who have just begun to read them."""

SYNC_THREADS = 8
"""A disk takes several flushes at a time in little more than the time of one."""

FRAGMENTS_LOCK = "fragments"
"""Held by who makes joins of fragments, and by who evicts fragments that no join needs."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A digest, and where its bytes are: under the object `key`, or the join of `parts`."""

    digest: Digest
    size: int
    key: str | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownLayer:
    digest: Digest
    size: int
    diff_id: Digest
    uncompressed_size: int


class BlobStore:
    """Blobs by digest. A blob is known only when its bytes are whole and on stable storage.

    `fragments` is the folder of fragments, local even where the objects are not. All methods raise StorageUnavailable
    and StorageFull.
    """

    def __init__(self, database: Database, objects: ObjectStore, fragments: Path, *, joins: bool = True) -> None:
        self.database = database
        self.objects = objects
        self._fragments = fragments
        self._joins = joins
        """Whether joins are kept as such, or written out as objects: where the objects are files, they are."""
        self._syncing = ThreadPoolExecutor(SYNC_THREADS, "condery-sync")

    def fragment_path(self, key: str) -> Path:
        return fragment_path(self._fragments, key)

    async def find(self, digest: Digest) -> StoredBlob:
        """Raises BlobUnknown."""
        query = select(*BLOB_COLUMNS).where(tables.blob.c.digest == digest)
        async with self.database.reading() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise BlobUnknown(digest)
        return stored_blob(row)

    async def need(self, digests: Sequence[Digest]) -> dict[Digest, StoredBlob]:
        """Those of `digests` that are stored; they are safe from garbage collection for its grace time."""
        if not digests:
            return {}
        async with self.database.writing() as connection:
            return await _need(connection, digests)

    async def link(self, blob: StoredBlob, media_type: str) -> str | None:
        """A URL to get `blob` from for a short while; None where the server has to send it."""
        if self._joins or blob.key is None:
            return None
        # signing may have to get credentials first
        return await asyncio.to_thread(self.objects.link, blob.key, media_type=media_type)

    def segments(self, blob: StoredBlob, start: int = 0, stop: int | None = None) -> list[Segment]:
        """The bytes [start, stop) of `blob`, which are not read yet; raises ObjectMissing."""
        stop = blob.size if stop is None else stop
        if blob.key is not None:
            return list(self.objects.segments(blob.key, start, stop))
        whole: list[Segment] = [
            part if isinstance(part, bytes) else FileRange(self.fragment_path(part.key), 0, part.size)
            for part in blob.parts
        ]
        wanted = cut(whole, start, stop)
        for segment in wanted:
            if isinstance(segment, FileRange) and not os.path.exists(segment.path):
                raise ObjectMissing(segment.path.name)
        return wanted

    def read(self, blob: StoredBlob) -> Iterator[bytes]:
        """The content in chunks. Blocks; raises ObjectMissing."""
        for segment in self.segments(blob):
            yield from read_segment(segment)

    async def content(self, digest: Digest) -> bytes:
        """All of a small blob; raises BlobUnknown."""
        blob = await self.find(digest)
        return await asyncio.to_thread(lambda: b"".join(self.read(blob)))

    async def put(self, digest: Digest, content: Iterable[bytes]) -> StoredBlob:
        """Store `content`, which must hash to `digest` (else DigestMismatch); may be repeated.

        It is read in a thread. Whatever ends this early leaves nothing.
        """
        return (await self.put_all({digest: content}))[digest]

    async def put_all(self, contents: Mapping[Digest, Iterable[bytes]]) -> dict[Digest, StoredBlob]:
        """`put` of several at once, in no more transactions than one takes: all of them, or none that is new."""
        async with self.database.writing() as connection:
            found = await _need(connection, list(contents))
            missing = sorted(contents.keys() - found.keys())
            keys = await _reserve(connection, len(missing))
        if not missing:
            return found
        try:
            written = await self._write_all(zip(keys, missing, (contents[digest] for digest in missing), strict=True))
            adopted = await to_end(self._adopt_all(written))
            keys = sorted(set(keys) - {blob.key for blob in adopted})
        finally:
            if keys:
                await asyncio.shield(self.release(keys))
        return found | {blob.digest: blob for blob in adopted}

    async def _write_all(self, contents: Iterable[tuple[str, Digest, Iterable[bytes]]]) -> list[StoredBlob]:
        stopped = threading.Event()
        work = asyncio.gather(
            *(
                asyncio.to_thread(self._write, key, digest, _until(stopped, content))
                for key, digest, content in contents
            ),
            return_exceptions=True,
        )
        blobs = []
        for result in await to_end(work, stopped.set):
            if isinstance(result, BaseException):
                raise result
            blobs.append(result)
        return blobs

    async def adopt(self, blob: StoredBlob) -> StoredBlob:
        """Make the pending object of `blob` the bytes of its digest, unless the digest has bytes already.

        Returns where they are now. Raises WriteExpired.
        """
        [adopted] = await self._adopt_all([blob])
        return adopted

    async def _adopt_all(self, blobs: Sequence[StoredBlob]) -> list[StoredBlob]:
        adopted = []
        async with self.database.writing() as connection:
            for blob in blobs:
                assert blob.key is not None
                await claim(connection, blob.key)
                adopted.append(await register(self.database, connection, blob))
        return adopted

    @contextlib.asynccontextmanager
    async def pending(self) -> Any:
        """The key of an object to be written in the block; it is deleted afterwards unless some blob has it by then."""
        (key,) = await self.reserve(1)
        try:
            yield key
        finally:
            await asyncio.shield(self.release([key]))

    async def reserve(self, count: int) -> list[str]:
        """New keys, recorded as pending."""
        async with self.database.writing() as connection:
            return await _reserve(connection, count)

    async def release(self, keys: Sequence[str]) -> None:
        """Delete those of `keys` that are still pending. What fails is left for the garbage collection."""
        with contextlib.suppress(StorageError):
            for batch in batches(keys):
                await self._release(batch)

    async def _release(self, keys: Sequence[str]) -> None:
        table = tables.pending
        query = select(table.c.key).where(table.c.key.in_(keys))
        async with self.database.reading() as connection:
            left = list((await connection.execute(query)).scalars())
        if left:
            await asyncio.to_thread(self.objects.delete, left)
            async with self.database.writing() as connection:
                await connection.execute(delete(table).where(table.c.key.in_(left)))

    # layers

    async def layers(self, keys: Sequence[str]) -> dict[str, KnownLayer]:
        """The layers that were made before and are still stored, safe from garbage collection for its grace time."""
        layer, blob = tables.layer, tables.blob
        query = (
            select(layer, blob.c.size).join(blob, blob.c.digest == layer.c.digest).where(layer.c.key.in_(keys))
        )  # fmt: skip
        async with self.database.writing() as connection:
            rows = (await connection.execute(query)).all()
            await touch(connection, [row.digest for row in rows])
        return {
            row.key: KnownLayer(Digest(row.digest), row.size, Digest(row.diff_id), row.uncompressed_size)
            for row in rows
        }

    async def put_join(self, join: Join) -> None:
        """Store a blob that is made of fragments; raises FragmentsGone."""
        await self._write_join(join)
        if self._joins:
            async with self.database.writing() as connection:
                await self._record_joins(connection, [join])

    async def write_layer(self, layer: Layer) -> None:
        """Put the bytes of `layer` on stable storage, for `record_layers`; raises FragmentsGone."""
        await self._write_join(layer.join)

    async def record_layers(self, layers: Sequence[Layer]) -> None:
        """Make layers that were written known, all or none; raises FragmentsGone when one is not there (any more)."""
        async with self.database.writing() as connection:
            if self._joins:
                await self._record_joins(connection, [layer.join for layer in layers])
            await self._insert_layers(connection, layers)

    async def _write_join(self, join: Join) -> None:
        if self._joins:
            await asyncio.to_thread(self._sync_fragments, join.fragments)
            return
        try:
            await self.put(join.digest, self.read(StoredBlob(join.digest, join.size, None, join.parts)))
        except (ObjectMissing, FileNotFoundError):
            raise FragmentsGone(join.fragments) from None

    async def _record_joins(self, connection: AsyncConnection, joins: Sequence[Join]) -> None:
        await self.database.lock(connection, FRAGMENTS_LOCK)
        keys = sorted({key for join in joins for key in join.fragments})
        missing = [key for key in keys if not self.fragment_path(key).exists()]
        if missing:
            raise FragmentsGone(missing)
        await _register_joins(self.database, connection, joins)

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
        await connection.execute(self.database.insert(tables.layer).on_conflict_do_nothing(), rows)

    def _sync_fragments(self, keys: Iterable[str]) -> None:
        """Fragments are written without a flush, being a cache; a layer that refers to them needs them on the disk."""
        paths = [self.fragment_path(key) for key in keys]
        with known_errors(self._fragments):
            list(self._syncing.map(_if_there(sync_file), paths))
            list(self._syncing.map(_if_there(sync_directory), {path.parent for path in paths}))

    def _write(self, key: str, digest: Digest, content: Iterable[bytes]) -> StoredBlob:
        hasher = digest.hasher()
        with writing(self.objects, key) as writer:
            for chunk in content:
                hasher.update(chunk)
                writer.write(chunk)
            found = Digest.of_hasher(hasher)
            if found != digest:
                raise DigestMismatch(digest, found)
        return StoredBlob(digest, writer.size, key)


BLOB_COLUMNS = (tables.blob.c.digest, tables.blob.c.size, tables.blob.c.key, tables.blob.c.parts)


def stored_blob(row: Any) -> StoredBlob:
    """From a row that has BLOB_COLUMNS."""
    parts: tuple[Part, ...] = ()
    if row.parts is not None:
        parts = tuple(
            base64.b64decode(part) if isinstance(part, str) else FragmentPart(part["fragment"], part["size"])
            for part in json.loads(row.parts)
        )
    return StoredBlob(Digest(row.digest), row.size, row.key, parts)


async def _need(connection: AsyncConnection, digests: Sequence[Digest]) -> dict[Digest, StoredBlob]:
    table = tables.blob
    these = table.c.digest.in_(digests)
    await lock_rows(connection, table, these)
    statement = update(table).where(these).values(used=time.time()).returning(*BLOB_COLUMNS)
    return {blob.digest: blob for blob in map(stored_blob, await connection.execute(statement))}


async def _reserve(connection: AsyncConnection, count: int) -> list[str]:
    keys = [new_key() for _ in range(count)]
    await make_pending(connection, keys, time.time() + WRITE_SECONDS)
    return keys


async def register(database: Database, connection: AsyncConnection, blob: StoredBlob) -> StoredBlob:
    """Record the object of a digest, unless it has bytes already, and say which it has now.

    An object that is not needed is pending afterwards, to be released by the caller. The row is locked until the
    transaction ends, and by its new `used` the garbage collection, which looks at it under the same lock, lets it be.
    """
    assert blob.key is not None
    now = time.time()
    statement = database.insert(tables.blob).values(
        digest=blob.digest, size=blob.size, key=blob.key, created=now, used=now
    )
    statement = statement.on_conflict_do_update(index_elements=["digest"], set_={"used": now})
    row = (await connection.execute(statement.returning(*BLOB_COLUMNS))).one()
    if row.key != blob.key:
        await make_pending(connection, [blob.key], now)
    return stored_blob(row)


async def _register_joins(database: Database, connection: AsyncConnection, joins: Sequence[Join]) -> None:
    """Record the parts of each digest that has no bytes yet, and which fragments are needed for them."""
    now = time.time()
    table = tables.blob
    # in the order in which everybody locks rows
    rows = [
        {"digest": join.digest, "size": join.size, "parts": _document(join.parts), "created": now, "used": now}
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


async def touch(connection: AsyncConnection, digests: Iterable[str]) -> set[str]:
    """Keep blobs from the garbage collection for its grace time; returns those that are there."""
    table = tables.blob
    found: set[str] = set()
    for batch in batches(sorted(digests)):
        these = table.c.digest.in_(batch)
        await lock_rows(connection, table, these)
        statement = update(table).where(these).values(used=time.time())
        found.update((await connection.execute(statement.returning(table.c.digest))).scalars())
    return found


async def lock_rows(connection: AsyncConnection, table: Table, *where: ColumnElement[bool]) -> None:
    """Lock rows before several of them are changed, so that whoever else locks some of them has the same order.

    On SQLite a writing transaction has all of them anyhow.
    """
    if connection.dialect.name == "postgresql":
        keys = list(table.primary_key)
        query = select(*keys).where(*where).order_by(*keys)
        await connection.execute(query.with_for_update(key_share=True))


DOOMED = 0.0
"""The `expires` of pending objects whose deletion has begun."""


async def make_pending(connection: AsyncConnection, keys: Sequence[str], expires: float) -> None:
    if keys:
        await connection.execute(tables.pending.insert(), [{"key": key, "expires": expires} for key in keys])


async def claim(connection: AsyncConnection, key: str) -> None:
    """Take a written object out of the pending ones; raises WriteExpired when it may have been deleted."""
    table = tables.pending
    result = await connection.execute(delete(table).where(table.c.key == key, table.c.expires > DOOMED))
    if result.rowcount != 1:
        raise WriteExpired


def _until(stopped: threading.Event, content: Iterable[bytes]) -> Iterator[bytes]:
    """`content`, broken off once `stopped` is set, however much is still to come."""
    for chunk in content:
        if stopped.is_set():
            raise InterruptedError
        yield chunk


def _if_there(function: Callable[[Path], None]) -> Callable[[Path], None]:
    def call(path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            function(path)

    return call


def _document(parts: Sequence[Part]) -> str:
    return json.dumps(
        [
            base64.b64encode(part).decode() if isinstance(part, bytes) else {"fragment": part.key, "size": part.size}
            for part in parts
        ]
    )
