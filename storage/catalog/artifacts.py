"""Files made from locks, such as archives, each recorded with the blob that holds its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from storage.blobs.rows import touch
from storage.catalog.documents import Document, find_document, note_use, put_document
from storage.catalog.made import Made
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Digest
from storage.errors import BlobUnknown


class Artifacts:
    """The table of files; each method is one transaction. Documents are JSON-able."""

    def __init__(self, database: Database, made: Made) -> None:
        self._database = database
        self._made = made

    async def find(self, key: str) -> Document | None:
        return await find_document(self._database, tables.artifact, key)

    async def find_lock(self, key: str) -> str | None:
        """The key of the lock that a file was made from."""
        query = select(tables.artifact.c.lock_key).where(tables.artifact.c.key == key)
        async with self._database.reading() as connection:
            return (await connection.execute(query)).scalar()

    async def put(self, key: str, lock_key: str, document: Mapping[str, Any], digest: Digest) -> None:
        """Record a file and the blob that holds its bytes.

        Raises BlobUnknown if the blob is gone, and QuotaExceeded.
        """
        await self._made.within(lambda: self._put(key, lock_key, document, digest))

    async def _put(self, key: str, lock_key: str, document: Mapping[str, Any], digest: Digest) -> None:
        async with self._database.writing() as connection:
            if not await touch(connection, [digest]):
                raise BlobUnknown(digest)
            await put_document(connection, tables.artifact, key, lock_key, document, digest=digest)
            await self._made.check(connection)

    async def note_use(self, key: str) -> None:
        """Record that a file was requested, at most once in USE_SECONDS."""
        await note_use(self._database, tables.artifact, key)
