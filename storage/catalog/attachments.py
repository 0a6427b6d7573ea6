"""What is attached to the manifests of on-demand images: manifests that name one of them as their subject.

They are made of what is stored, so nobody misses them when they go: with their subject, by the garbage collection or to
make room.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import touch
from storage.catalog.made import Made
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Descriptor, Digest
from storage.errors import ManifestBlobUnknown
from storage.quotas.bounds import find_bounds
from storage.quotas.held import check_bounds, lock_bounds
from storage.repositories.rows import (
    Push,
    ensure_repository,
    insert_manifest,
    link_blobs,
    lock_manifests,
    pin_blobs,
)

MOST_LISTED = 100
"""Attachments of one subject that are looked at. There are about ten of them."""


@dataclass(frozen=True, slots=True)
class ImageSubject:
    """An image that has a manifest, and the values of an annotation in what is attached to the manifest."""

    image_key: str
    lock_key: str
    attached: frozenset[str]


class Attachments:
    """Each method is one transaction."""

    def __init__(self, database: Database, made: Made) -> None:
        self._database = database
        self._made = made

    async def find_subject(self, repository: str, digest: Digest, annotation: str) -> ImageSubject | None:
        """Find the newest image that has the manifest `digest`; None if none has, or the repository has no such one."""
        row, image, made = tables.repository_manifest, tables.image, tables.image_manifest
        stored = exists().where(row.c.repository == repository, row.c.digest == digest)
        query = (
            select(image.c.key, image.c.lock_key)
            .join(made, made.c.image == image.c.key)
            .where(made.c.digest == digest, stored)
            .order_by(image.c.created.desc(), image.c.key)
            .limit(1)
        )
        present = (
            select(row.c.annotations).where(row.c.repository == repository, row.c.subject == digest).limit(MOST_LISTED)
        )
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).first()
            if found is None:
                return None
            texts = (await connection.execute(present)).scalars()
            values = (json.loads(text).get(annotation) for text in texts if text)
            return ImageSubject(found.key, found.lock_key, frozenset(value for value in values if value))

    async def put(self, repository: str, subject: Digest, pushes: Sequence[Push]) -> bool:
        """Record manifests that name `subject`, with their blobs; False if the repository does not have it any more.

        Raises ManifestBlobUnknown if a blob is gone, SizeMismatch and QuotaExceeded.
        """
        recorded = False

        async def record() -> None:
            nonlocal recorded
            recorded = await self._put(repository, subject, pushes)

        await self._made.within(record)
        return recorded

    async def _put(self, repository: str, subject: Digest, pushes: Sequence[Push]) -> bool:
        row = tables.repository_manifest
        blobs: dict[Digest, Descriptor] = {blob.digest: blob for push in pushes for blob in push.blobs}
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            here = exists().where(row.c.repository == repository, row.c.digest == subject)
            if not (await connection.execute(select(here))).scalar():
                return False
            if missing := blobs.keys() - await touch(connection, blobs):
                raise ManifestBlobUnknown(repository, sorted(missing))
            await ensure_repository(self._database, connection, repository)
            await link_blobs(self._database, connection, repository, blobs)
            await pin_blobs(connection, repository, list(blobs.values()))
            for push in pushes:
                pinned = [blob.digest for blob in push.blobs]
                await insert_manifest(self._database, connection, repository, push, pinned)
            if repository == self._made.limits.root:
                await self._made.check(connection)
            else:
                await self._check(connection, repository)
        return True

    async def _check(self, connection: AsyncConnection, repository: str) -> None:
        """Raise QuotaExceeded for what does not fit into another repository that has images."""
        bounds = await find_bounds(connection, self._made.limits, repository)
        await lock_bounds(self._database, connection, bounds)
        await check_bounds(connection, bounds)
