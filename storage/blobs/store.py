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
import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select

from storage.blobs.rows import BLOB_COLUMNS, StoredBlob, claim, need_rows, register, reserve_keys, stored_blob
from storage.cancellation import to_end
from storage.database import tables
from storage.database.engine import Database, batches
from storage.digest import Digest
from storage.errors import BlobUnknown, DigestMismatch, ObjectMissing, StorageError
from storage.layout import fragment_path
from storage.objects.protocol import ObjectStore, writing
from storage.objects.segments import FileRange, Segment, cut, read_segment


class BlobStore:
    """Blobs by digest. A blob is known only when its bytes are whole and on stable storage.

    `fragments` is the folder of fragments, local even where the objects are not. All methods raise StorageUnavailable
    and StorageFull.
    """

    def __init__(self, database: Database, objects: ObjectStore, fragments: Path, *, joins: bool = True) -> None:
        self.database = database
        self.objects = objects
        self.fragments = fragments
        self.keeps_joins = joins
        """Whether joins are kept as such, or written out as objects: where the objects are files, they are."""

    def fragment_path(self, key: str) -> Path:
        return fragment_path(self.fragments, key)

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
            return await need_rows(connection, digests)

    async def link(self, blob: StoredBlob, media_type: str) -> str | None:
        """A URL to get `blob` from for a short while; None where the server has to send it."""
        if self.keeps_joins or blob.key is None:
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
            found = await need_rows(connection, list(contents))
            missing = sorted(contents.keys() - found.keys())
            keys = await reserve_keys(connection, len(missing))
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
            return await reserve_keys(connection, count)

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


def _until(stopped: threading.Event, content: Iterable[bytes]) -> Iterator[bytes]:
    """`content`, broken off once `stopped` is set, however much is still to come."""
    for chunk in content:
        if stopped.is_set():
            raise InterruptedError
        yield chunk
