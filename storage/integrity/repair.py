"""Removing what is damaged, so that the next push or build stores it again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.joins import FragmentPart
from storage.blobs.layers import FRAGMENTS_LOCK
from storage.blobs.rows import BLOB_COLUMNS, DOOMED, StoredBlob, make_pending, stored_blob
from storage.blobs.store import BlobStore
from storage.database import tables
from storage.database.engine import batches
from storage.database.environment_tables import environment_image, environment_manifest
from storage.database.log_tables import environment_log
from storage.digest import Digest
from storage.events.announcements import announce
from storage.events.changes import Changes
from storage.integrity.verify import Verification, digest_of
from storage.repositories.rows import lock_manifests


@dataclass(frozen=True)
class Repaired:
    """The numbers of blobs and manifests removed, and of on-demand images to be made again."""

    blobs: int = 0
    manifests: int = 0
    images: int = 0

    def __add__(self, other: Repaired) -> Repaired:
        return Repaired(self.blobs + other.blobs, self.manifests + other.manifests, self.images + other.images)


async def repair(blobs: BlobStore, changes: Changes, found: Verification) -> Repaired:
    """Remove the damaged blobs, and the manifests whose own bytes are damaged, with their tags.

    A manifest that needs a removed blob stays, but cannot be pulled until the blob and it are pushed again. On-demand
    images are removed whole.
    """
    done = Repaired()
    for blob in found.broken_blobs:
        done += await _forget_blob(blobs, changes, blob)
    for digest in found.broken_manifests:
        done += await _forget_manifest(blobs, changes, digest)
    await _drop_fragments(blobs, {key for blob in found.broken_blobs for key in _fragments(blob)})
    return done


async def _forget_blob(blobs: BlobStore, changes: Changes, broken: StoredBlob) -> Repaired:
    blob, link, use, file = tables.blob, tables.link, tables.manifest_blob, tables.artifact
    digest = broken.digest
    async with blobs.database.writing() as connection:
        # no new reference to it can be made from here on
        query = select(*BLOB_COLUMNS).where(blob.c.digest == digest).with_for_update()
        row = (await connection.execute(query)).first()
        if row is None or stored_blob(row) != broken:
            return Repaired()
        needing = select(use.c.manifest).where(use.c.digest == digest)
        images = await _forget_images(connection, needing)
        changed = {row.repository for row in await connection.execute(select(link).where(link.c.digest == digest))}
        # a log without its blob is empty
        lost = update(environment_log).where(environment_log.c.digest == digest).values(digest=None, size=0)
        await connection.execute(lost)
        for table in (use, link, file, blob):
            await connection.execute(delete(table).where(table.c.digest == digest))
        await make_pending(connection, [broken.key] if broken.key else [], DOOMED)
        for repository in changed:
            await announce(connection, repository)
    for repository in changed:
        changes.mark(repository)
    return Repaired(blobs=1, images=images)


async def _forget_images(connection: AsyncConnection, manifests: Any) -> int:
    """Remove the on-demand images that have one of `manifests` (a query), with their manifests that no tag leads to.

    Builds of environments that have them then say that their image was lost, until they are built again.
    """
    row, tag = tables.repository_manifest, tables.tag
    kinds = ((tables.image, tables.image_manifest), (environment_image, environment_manifest))
    keys: set[str] = set()
    for _, made in kinds:
        keys |= set((await connection.execute(select(made.c.image).where(made.c.digest.in_(manifests)))).scalars())
    for batch in batches(sorted(keys)):
        for image, made in kinds:
            digests = select(made.c.digest).where(made.c.image.in_(batch))
            tagged = exists().where(tag.c.repository == row.c.repository, tag.c.digest == row.c.digest)
            await connection.execute(delete(row).where(row.c.digest.in_(digests), ~tagged))
            await connection.execute(delete(image).where(image.c.key.in_(batch)))
    return len(keys)


async def _forget_manifest(blobs: BlobStore, changes: Changes, digest: Digest) -> Repaired:
    row, body = tables.repository_manifest, tables.manifest
    async with blobs.database.reading() as connection:
        query = select(row.c.repository).where(row.c.digest == digest).order_by(row.c.repository)
        changed = list((await connection.execute(query)).scalars())
    async with blobs.database.writing() as connection:
        for repository in changed:
            await lock_manifests(blobs.database, connection, repository)
        text = select(body.c.body).where(body.c.digest == digest).with_for_update()
        stored = (await connection.execute(text)).scalar()
        if stored is None or digest_of(stored, digest) == digest:
            return Repaired()
        images = await _forget_images(connection, select(row.c.digest).where(row.c.digest == digest))
        await connection.execute(delete(row).where(row.c.digest == digest))
        await connection.execute(delete(body).where(body.c.digest == digest))
        for repository in changed:
            await announce(connection, repository)
    for repository in changed:
        changes.mark(repository)
    return Repaired(manifests=1, images=images)


async def _drop_fragments(blobs: BlobStore, keys: Iterable[str]) -> None:
    """Delete the broken joins' fragments that no sound join has, or the next build would use them again."""
    use = tables.fragment_use
    async with blobs.database.writing() as connection:
        await blobs.database.lock(connection, FRAGMENTS_LOCK)
        for batch in batches(sorted(keys)):
            query = select(use.c.fragment).where(use.c.fragment.in_(batch)).distinct()
            sound = set((await connection.execute(query)).scalars())
            await asyncio.to_thread(_unlink, blobs, set(batch) - sound)


def _unlink(blobs: BlobStore, keys: Iterable[str]) -> None:
    for key in keys:
        path = blobs.fragment_path(key)
        for each in (path, path.with_name(f"{key}.json")):
            each.unlink(missing_ok=True)


def _fragments(blob: StoredBlob) -> list[str]:
    return [part.key for part in blob.parts if isinstance(part, FragmentPart)]
