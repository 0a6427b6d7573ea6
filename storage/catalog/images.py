"""On-demand images, each recorded with its manifests and blobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import touch
from storage.catalog.documents import Document, find_document, note_use, put_document
from storage.catalog.made import Made
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Digest
from storage.errors import ManifestBlobUnknown
from storage.repositories.rows import (
    Push,
    StoredManifest,
    ensure_repository,
    insert_manifest,
    link_blobs,
    lock_manifests,
    pin_blobs,
)


class Images:
    """The table of images; each method is one transaction. Documents are JSON-able."""

    def __init__(self, database: Database, made: Made) -> None:
        self._database = database
        self._made = made

    async def find(self, key: str) -> Document | None:
        return await find_document(self._database, tables.image, key)

    async def find_newest_of_lock(self, lock_key: str) -> Document | None:
        """The newest image made from a lock, with any base."""
        query = (
            select(tables.image.c.document)
            .where(tables.image.c.lock_key == lock_key)
            .order_by(tables.image.c.created.desc())
            .limit(1)
        )
        async with self._database.reading() as connection:
            text = (await connection.execute(query)).scalar()
        return json.loads(text) if text is not None else None

    async def find_manifest(self, digest: Digest) -> StoredManifest | None:
        """A manifest from any repository; for work on the store itself, not for clients."""
        row, body = tables.repository_manifest, tables.manifest
        query = (
            select(row.c.media_type, body.c.body)
            .join(body, body.c.digest == row.c.digest)
            .where(row.c.digest == digest)
            .limit(1)
        )
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).first()
        return StoredManifest(digest, found.media_type, found.body) if found else None

    async def list_manifests(self, key: str) -> list[StoredManifest]:
        """The manifests of an image that are still stored, sorted by digest."""
        made, row, body = tables.image_manifest, tables.repository_manifest, tables.manifest
        query = (
            select(row.c.digest, row.c.media_type, body.c.body)
            .distinct()
            .join(made, made.c.digest == row.c.digest)
            .join(body, body.c.digest == row.c.digest)
            .where(made.c.image == key)
            .order_by(row.c.digest)
        )
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
            return [StoredManifest(Digest(found.digest), found.media_type, found.body) for found in rows]

    async def put(
        self, key: str, lock_key: str, document: Mapping[str, Any], repository: str, pushes: Sequence[Push]
    ) -> None:
        """Record an image together with its manifests and blobs in `repository`: nobody sees one without the others.

        Raises ManifestBlobUnknown if a blob is gone, SizeMismatch and QuotaExceeded.
        """
        await self._made.within(lambda: self._put(key, lock_key, document, repository, pushes))

    async def _put(
        self, key: str, lock_key: str, document: Mapping[str, Any], repository: str, pushes: Sequence[Push]
    ) -> None:
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            await record_manifests(self._database, connection, repository, pushes)
            await put_document(connection, tables.image, key, lock_key, document)
            rows = [{"image": key, "digest": push.manifest.digest} for push in pushes]
            await connection.execute(self._database.insert(tables.image_manifest).on_conflict_do_nothing(), rows)
            await self._made.check(connection)

    async def note_use(self, key: str) -> None:
        """Record that an image was requested, at most once in USE_SECONDS."""
        await note_use(self._database, tables.image, key)


async def record_manifests(
    database: Database, connection: AsyncConnection, repository: str, pushes: Sequence[Push]
) -> None:
    """Record manifests and their blobs in a repository whose manifests are locked.

    Raises ManifestBlobUnknown if a blob is gone, SizeMismatch.
    """
    blobs = {blob.digest: blob for push in pushes for blob in push.blobs}
    found = await touch(connection, blobs)
    if missing := blobs.keys() - found:
        raise ManifestBlobUnknown(repository, sorted(missing))
    await ensure_repository(database, connection, repository)
    await link_blobs(database, connection, repository, blobs)
    await pin_blobs(connection, repository, list(blobs.values()))
    for push in pushes:
        await insert_manifest(database, connection, repository, push, [blob.digest for blob in push.blobs])
