"""Upload sessions: bytes that arrive in several requests, at any of several processes, before they are a blob.

The bytes of each request are an object of their own, and the session's row lists these. So if a request breaks off, or
a process dies, the session stays as it was. If two requests continue the same session at the same time, the first to be
recorded wins.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from cachetools import TTLCache
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import StoredBlob, claim, make_pending, register
from storage.blobs.store import BlobStore
from storage.cancellation import to_end
from storage.database import tables
from storage.digest import Digest, Hasher, new_hasher
from storage.errors import (
    DigestMismatch,
    ObjectMissing,
    QuotaExceeded,
    RangeInvalid,
    StorageError,
    TooManyUploads,
    UploadUnknown,
)
from storage.events.outbox import Record
from storage.objects.protocol import ObjectPart
from storage.objects.segments import read_segment
from storage.quotas.arrivals import Arrival, arriving
from storage.repositories.pushed import Repositories

MOST_HASHES = 4096
HASH_SECONDS = 3600.0
MOST_OF_ONE = 1000


@dataclass(frozen=True)
class Upload:
    """A session as its row has it; `size` bytes are stored."""

    id: str
    repository: str
    principal: str
    size: int
    parts: int


@dataclass(frozen=True)
class Received:
    """The object `key`, committed and still pending, with the next `size` bytes of an upload."""

    key: str
    size: int
    hasher: Hasher | None = None
    """Of all the upload's bytes up to the end of this object, if known."""


class Uploads:
    """Sessions by id; each belongs to the repository and the principal that opened it.

    Hashes stay in memory while a session's requests reach the same process; otherwise they are computed again from its
    bytes.
    """

    def __init__(self, blobs: BlobStore, repositories: Repositories, most: int = MOST_OF_ONE) -> None:
        """`most` sessions of one opener may be open."""
        self._most = most
        self._blobs = blobs
        self._database = blobs.database
        self._repositories = repositories
        self._hashes: TTLCache[str, tuple[int, Hasher]] = TTLCache(MOST_HASHES, HASH_SECONDS)

    async def open(self, repository: str, principal: str, opener: str = "") -> Upload:
        """A session of `principal`, which takes room of `opener`: of nobody if that is empty. Raises TooManyUploads.

        `principal` is never the name of an account, which may be another's later.
        """
        now = time.time()
        upload = Upload(str(uuid.uuid4()), repository, principal, 0, 0)
        async with self._database.writing() as connection:
            if opener:
                mine = select(func.count()).select_from(tables.upload).where(tables.upload.c.opener == opener)
                if (await connection.execute(mine)).scalar_one() >= self._most:
                    raise TooManyUploads(self._most)
            await connection.execute(
                tables.upload.insert().values(
                    id=upload.id,
                    repository=repository,
                    principal=principal,
                    opener=opener,
                    size=0,
                    parts=0,
                    created=now,
                    touched=now,
                )
            )
        return upload

    async def find(self, repository: str, upload_id: str, principal: str) -> Upload:
        """Find a session; raises UploadUnknown, also for another principal's."""
        table = tables.upload
        query = select(table).where(
            table.c.id == upload_id, table.c.repository == repository, table.c.principal == principal
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise UploadUnknown(upload_id)
        return Upload(row.id, row.repository, row.principal, row.size, row.parts)

    def hasher(self, upload: Upload, algorithm: str = "sha256") -> Hasher | None:
        """The hash of the session's bytes so far, to be continued; None if this process does not know it."""
        if upload.size == 0:
            return new_hasher(algorithm)
        size, hasher = self._hashes.get(upload.id, (-1, None))
        return hasher.copy() if hasher is not None and size == upload.size and hasher.name == algorithm else None

    async def append(self, upload: Upload, received: Received) -> Upload:
        """Record the bytes as the session's next.

        Raises RangeInvalid if another request was faster, UploadUnknown, and QuotaExceeded, which ends the session.
        """
        async with self.end_on_refusal(upload):
            own = (upload.id, received.key)
            await self._repositories.room.within(upload.repository, lambda: self._append(upload, received), own)
        size = upload.size + received.size
        if received.hasher is not None:
            self._hashes[upload.id] = (size, received.hasher)
        return Upload(upload.id, upload.repository, upload.principal, size, upload.parts + 1)

    async def _append(self, upload: Upload, received: Received) -> None:
        table = tables.upload
        size = upload.size + received.size
        async with self._database.writing() as connection:
            statement = (
                update(table)
                .where(table.c.id == upload.id, table.c.parts == upload.parts)
                .values(size=size, parts=upload.parts + 1, touched=time.time())
            )
            if (await connection.execute(statement)).rowcount != 1:
                await self._refuse(connection, upload)
            await claim(connection, received.key)
            await connection.execute(
                tables.upload_part.insert().values(
                    upload=upload.id, position=upload.parts, key=received.key, size=received.size
                )
            )
            await self._repositories.room.check(connection, upload.repository, size, without=(upload.id,))

    async def _refuse(self, connection: AsyncConnection, upload: Upload) -> None:
        query = select(tables.upload.c.size).where(tables.upload.c.id == upload.id)
        size = (await connection.execute(query)).scalar()
        if size is None:
            raise UploadUnknown(upload.id)
        raise RangeInvalid(size, "another request has continued this upload")

    async def finish(
        self, upload: Upload, digest: Digest, last: Received | None = None, record: Record[StoredBlob] | None = None
    ) -> StoredBlob:
        """Make the session's bytes and those of `last` the blob `digest` of its repository, and end the session.

        Raises DigestMismatch, which leaves the session as it was, UploadUnknown, and QuotaExceeded, which ends it.
        """
        parts = await self._parts(upload)
        if last is not None:
            parts.append(ObjectPart(last.key, last.size))
        try:
            async with self.end_on_refusal(upload):
                return await self._finish(upload, parts, digest, last, record)
        except (ObjectMissing, FileNotFoundError):
            # it may have expired while its bytes were read
            await self._parts(upload)
            raise

    async def _finish(
        self,
        upload: Upload,
        parts: Sequence[ObjectPart],
        digest: Digest,
        last: Received | None,
        record: Record[StoredBlob] | None,
    ) -> StoredBlob:
        await self._verify(last.hasher if last is not None else self.hasher(upload, digest.algorithm), parts, digest)
        size = sum(part.size for part in parts)
        if len(parts) == 1:
            return await self._complete(upload, parts, last, StoredBlob(digest, size, parts[0].key), record)
        async with self._blobs.pending() as key:
            await to_end(asyncio.to_thread(self._blobs.objects.concatenate, key, parts))
            return await self._complete(upload, parts, last, StoredBlob(digest, size, key), record)

    async def _complete(
        self,
        upload: Upload,
        parts: Sequence[ObjectPart],
        last: Received | None,
        blob: StoredBlob,
        record: Record[StoredBlob] | None,
    ) -> StoredBlob:
        owned = {part.key for part in parts} - ({last.key} if last else set())
        own = (upload.id, blob.key or "", last.key if last else "")
        stored = await self._repositories.room.within(
            upload.repository, lambda: self._complete_upload(upload, owned, blob, record), own
        )
        self._hashes.pop(upload.id, None)
        # whoever made `last` and a joined object pending releases them
        left = owned - ({blob.key} if stored.key == blob.key else set())
        if left:
            await to_end(self._blobs.release(sorted(left)))
        return stored

    async def _complete_upload(
        self, upload: Upload, owned: Set[str], blob: StoredBlob, record: Record[StoredBlob] | None
    ) -> StoredBlob:
        async with self._database.writing() as connection:
            await _end(connection, upload)
            if blob.key not in owned:
                await claim(connection, blob.key or "")
            await make_pending(connection, sorted(owned - {blob.key}), time.time())
            stored = await register(self._database, connection, blob)
            await self._repositories.link(connection, upload.repository, stored)
            if record is not None:
                await record(connection, stored)
        return stored

    async def store(
        self, repository: str, digest: Digest, received: Received, record: Record[StoredBlob] | None = None
    ) -> StoredBlob:
        """Make the bytes of a single request the blob `digest`; raises DigestMismatch, QuotaExceeded."""
        await self._verify(received.hasher, [ObjectPart(received.key, received.size)], digest)
        blob = StoredBlob(digest, received.size, received.key)
        return await self._repositories.room.within(
            repository, lambda: self._store(repository, blob, record), (received.key,)
        )

    async def _store(self, repository: str, blob: StoredBlob, record: Record[StoredBlob] | None) -> StoredBlob:
        assert blob.key is not None
        async with self._database.writing() as connection:
            await claim(connection, blob.key)
            stored = await register(self._database, connection, blob)
            await self._repositories.link(connection, repository, stored)
            if record is not None:
                await record(connection, stored)
        return stored

    async def cancel(self, upload: Upload) -> None:
        """End a session and delete its bytes; raises UploadUnknown."""
        keys = [part.key for part in await self._parts(upload)]
        async with self._database.writing() as connection:
            await _end(connection, upload)
            await make_pending(connection, keys, time.time())
        self._hashes.pop(upload.id, None)
        await to_end(self._blobs.release(keys))

    def arriving(self, repository: str, digest: str = "", upload: str = "") -> AbstractAsyncContextManager[Arrival]:
        """The target for the bytes of one request to a repository.

        They are those of the blob `digest`, and come in the session `upload`, if these are known.
        """
        return arriving(self._blobs, self._repositories.room, repository, digest, upload)

    @contextlib.asynccontextmanager
    async def end_on_refusal(self, upload: Upload) -> AsyncIterator[None]:
        """End the session, so that its bytes are deleted, if the block raises QuotaExceeded."""
        try:
            yield
        except QuotaExceeded:
            with contextlib.suppress(StorageError):
                await self.cancel(upload)
            raise

    async def _parts(self, upload: Upload) -> list[ObjectPart]:
        """The session's parts; raises UploadUnknown if it has ended since it was found."""
        table = tables.upload_part
        query = select(table.c.key, table.c.size).where(table.c.upload == upload.id).order_by(table.c.position)
        async with self._database.reading() as connection:
            parts = [ObjectPart(row.key, row.size) for row in await connection.execute(query)]
        if len(parts) < upload.parts:
            raise UploadUnknown(upload.id)
        return parts

    async def _verify(self, hasher: Hasher | None, parts: Sequence[ObjectPart], digest: Digest) -> None:
        if hasher is None or hasher.name != digest.algorithm:
            hasher = await asyncio.to_thread(self._rehash, parts, digest.algorithm)
        found = Digest.of_hasher(hasher)
        if found != digest:
            raise DigestMismatch(digest, found)

    def _rehash(self, parts: Sequence[ObjectPart], algorithm: str) -> Hasher:
        hasher = new_hasher(algorithm)
        for part in parts:
            for segment in self._blobs.objects.segments(part.key, 0, part.size):
                for chunk in read_segment(segment):
                    hasher.update(chunk)
        return hasher


async def _end(connection: AsyncConnection, upload: Upload) -> None:
    table = tables.upload
    # the parts that were read are complete only if their number is still the same
    statement = delete(table).where(table.c.id == upload.id, table.c.parts == upload.parts)
    if (await connection.execute(statement)).rowcount != 1:
        raise UploadUnknown(upload.id)
