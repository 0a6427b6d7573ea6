"""Content-addressed bytes: the database knows which digests are stored, an object store holds their bytes.

A layer is a join of fragments, and one fragment is part of many layers. So some blobs are stored as *joins*: lists of
parts instead of copies. A part is either a small run of bytes, kept inline, or the name of a file in the `fragments`
folder. Readers see a join as a blob like any other. A store that is not local gets the joined bytes as one object.

The database knows every object in the object store. A key is recorded as pending before a byte is written under it, and
the transaction that makes it the bytes of a digest deletes that record. A key that is still pending after its time
belongs to nobody, and is deleted without a scan of the store.
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
    """Blobs by digest. A blob is known only once all its bytes are on stable storage.

    `fragments` is the folder of fragments; it is local even if the objects are not. All methods raise
    StorageUnavailable and StorageFull.
    """

    def __init__(self, database: Database, objects: ObjectStore, fragments: Path, *, joins: bool = True) -> None:
        self.database = database
        self.objects = objects
        self.fragments = fragments
        self.keeps_joins = joins
        """Whether joins are stored as lists of parts; otherwise they are written out as objects."""

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
        """Return those of `digests` that are stored. The garbage collection keeps them for its grace time."""
        if not digests:
            return {}
        async with self.database.writing() as connection:
            return await need_rows(connection, digests)

    async def link(self, blob: StoredBlob, media_type: str) -> str | None:
        """A URL that serves `blob` for a short while; None if the server has to send it."""
        if self.keeps_joins or blob.key is None:
            return None
        # signing may have to fetch credentials first
        return await asyncio.to_thread(self.objects.link, blob.key, media_type=media_type)

    def segments(self, blob: StoredBlob, start: int = 0, stop: int | None = None) -> list[Segment]:
        """The bytes [start, stop) of `blob`, not yet read; raises ObjectMissing."""
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
        """Yield the content in chunks. Blocks; raises ObjectMissing."""
        for segment in self.segments(blob):
            yield from read_segment(segment)

    async def content(self, digest: Digest) -> bytes:
        """The whole content of a small blob; raises BlobUnknown."""
        blob = await self.find(digest)
        return await asyncio.to_thread(lambda: b"".join(self.read(blob)))

    async def put(self, digest: Digest, content: Iterable[bytes]) -> StoredBlob:
        """Store `content`, which must hash to `digest` (else DigestMismatch). May be repeated.

        The content is read in a thread. A call that fails or is cancelled leaves nothing behind.
        """
        return (await self.put_all({digest: content}))[digest]

    async def put_all(self, contents: Mapping[Digest, Iterable[bytes]]) -> dict[Digest, StoredBlob]:
        """`put` several blobs at once, in as few transactions as one takes: either all of them, or no new one."""
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
                await to_end(self.release(keys))
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
        """Make the pending object of `blob` the bytes of its digest, unless the digest already has bytes.

        Returns the blob with the place of its bytes now. Raises WriteExpired.
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
        """Yield the key for an object to write in the block. It is deleted afterwards unless a blob has it by then."""
        (key,) = await self.reserve(1)
        try:
            yield key
        finally:
            await to_end(self.release([key]))

    async def reserve(self, count: int) -> list[str]:
        """Make new keys and record them as pending."""
        async with self.database.writing() as connection:
            return await reserve_keys(connection, count)

    async def release(self, keys: Sequence[str]) -> None:
        """Delete those of `keys` that are still pending. The garbage collection gets what cannot be deleted now."""
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
    """Yield `content` until it ends or `stopped` is set."""
    for chunk in content:
        if stopped.is_set():
            raise InterruptedError
        yield chunk
