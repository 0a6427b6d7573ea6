"""Copies of other registries' content.

Copies are stored like pushed content, but in another order: a manifest is stored before its blobs, and some of these
may never be requested. So the blobs that a manifest names are recorded with it, and a blob that arrives is pinned to
the manifests that name it. The time of a manifest's last pull is recorded too, and the garbage collection deletes
copies that nobody pulls.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import BLOB_COLUMNS, StoredBlob, claim, register, stored_blob
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Descriptor, Digest
from storage.repositories.pushed import Repositories
from storage.repositories.rows import (
    Push,
    StoredManifest,
    ensure_repository,
    insert_manifest,
    lock_manifests,
    note_tags,
    pin_blobs,
)


@dataclass(frozen=True, slots=True)
class TaggedCopy:
    """What a tag pointed to when its registry last confirmed it, at `confirmed` (UNIX seconds)."""

    manifest: StoredManifest
    confirmed: float


class MirroredContent:
    """Repositories that are copies, by their names here."""

    def __init__(self, database: Database, repositories: Repositories) -> None:
        self._database = database
        self._repositories = repositories

    # manifests

    async def find_tagged(self, repository: str, tag: str) -> TaggedCopy | None:
        table = tables.tag
        query = select(table.c.digest, table.c.updated).where(table.c.repository == repository, table.c.name == tag)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        manifest = await self._repositories.manifest(repository, Digest(row.digest)) if row else None
        return TaggedCopy(manifest, row.updated) if row and manifest else None

    async def put_manifest(self, repository: str, push: Push, tag: str | None = None) -> None:
        """Store a manifest and the names in it; nothing that it names has to be here. Point `tag` to it, confirmed now.

        Raises SizeMismatch if the manifest gives another size for a blob that is here, and QuotaExceeded.
        """
        names = (*push.blobs, *push.optional_blobs)
        digest = push.manifest.digest
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            pinned = await pin_blobs(connection, repository, (), names)
            await ensure_repository(self._database, connection, repository)
            await self._repositories.room.check_manifest(connection, repository, digest, len(push.manifest.body))
            await insert_manifest(self._database, connection, repository, push, pinned)
            await self._note_names(connection, repository, digest, names)
            await self._repositories.set_tags(connection, repository, digest, [tag] if tag else [])
        self._repositories.changes.mark(repository)

    async def _note_names(
        self, connection: AsyncConnection, repository: str, manifest: Digest, names: Sequence[Descriptor]
    ) -> None:
        now = time.time()
        row = self._database.insert(tables.mirrored_manifest).values(repository=repository, digest=manifest, pulled=now)
        await connection.execute(
            row.on_conflict_do_update(index_elements=["repository", "digest"], set_={"pulled": now})
        )
        rows = [
            {"repository": repository, "manifest": manifest, "digest": each.digest, "size": each.size} for each in names
        ]
        if rows:
            await connection.execute(self._database.insert(tables.mirrored_blob).on_conflict_do_nothing(), rows)

    async def confirm(self, repository: str, tag: str, digest: Digest) -> bool:
        """Record that `tag` points to the stored manifest `digest`, as of now; False if that is not here (any more)."""
        table, name = tables.repository_manifest, tables.tag
        query = select(exists().where(table.c.repository == repository, table.c.digest == digest))
        still = update(name).where(name.c.repository == repository, name.c.name == tag, name.c.digest == digest)
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            if (await connection.execute(still.values(updated=time.time()))).rowcount:
                return True
            if not (await connection.execute(query)).scalar():
                return False
            await self._repositories.set_tags(connection, repository, digest, [tag])
        self._repositories.changes.mark(repository)
        return True

    async def drop_tag(self, repository: str, tag: str) -> None:
        """Delete a tag that its registry no longer has."""
        table = tables.tag
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            statement = delete(table).where(table.c.repository == repository, table.c.name == tag)
            meant = (await connection.execute(statement.returning(table.c.digest))).scalar()
            if meant is not None:
                await note_tags(connection, repository, [meant])
        self._repositories.changes.mark(repository)

    async def note_pull(self, repository: str, digest: Digest) -> None:
        """Record a pull of a manifest, and with it of the manifests that it names."""
        table, child = tables.mirrored_manifest, tables.manifest_child
        children = select(child.c.digest).where(child.c.repository == repository, child.c.manifest == digest)
        these = (table.c.repository == repository) & or_(table.c.digest == digest, table.c.digest.in_(children))
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            await connection.execute(update(table).where(these).values(pulled=time.time()))

    # blobs

    async def sizes(self, repository: str, digest: Digest) -> set[int]:
        """The sizes that the repository's manifests give for a blob; empty if none names it."""
        table = tables.mirrored_blob
        query = select(table.c.size).where(table.c.repository == repository, table.c.digest == digest).distinct()
        async with self._database.reading() as connection:
            return set((await connection.execute(query)).scalars())

    async def adopt(self, repository: str, blob: StoredBlob) -> StoredBlob:
        """Make a pending object the repository's blob, pinned to the manifests that name it; return the stored blob.

        Raises WriteExpired, QuotaExceeded.
        """
        assert blob.key is not None
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            await claim(connection, blob.key)
            stored = await register(self._database, connection, blob)
            await self._take(connection, repository, stored)
        return stored

    async def has_near(self, digest: Digest, prefix: str) -> bool:
        """Whether a repository whose name begins with `prefix` has the blob."""
        async with self._database.reading() as connection:
            return bool((await connection.execute(select(_is_linked_near(digest, prefix)))).scalar())

    async def borrow(self, repository: str, digest: Digest, prefix: str) -> StoredBlob | None:
        """Share a blob of a repository whose name begins with `prefix` with this one; None if none has it (any more).

        Raises QuotaExceeded.
        """
        table = tables.blob
        statement = update(table).where(table.c.digest == digest, _is_linked_near(digest, prefix))
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            row = (await connection.execute(statement.values(used=time.time()).returning(*BLOB_COLUMNS))).first()
            if row is None:
                return None
            await self._take(connection, repository, stored_blob(row))
        return stored_blob(row)

    async def _take(self, connection: AsyncConnection, repository: str, blob: StoredBlob) -> None:
        await self._repositories.link(connection, repository, blob)
        named = tables.mirrored_blob
        names = select(named.c.repository, named.c.manifest, named.c.digest).where(
            # a manifest that gives another size is wrong, and pins nothing
            named.c.repository == repository, named.c.digest == blob.digest, named.c.size == blob.size
        )  # fmt: skip
        pins = self._database.insert(tables.manifest_blob).from_select(["repository", "manifest", "digest"], names)
        await connection.execute(pins.on_conflict_do_nothing())


def _is_linked_near(digest: Digest, prefix: str) -> ColumnElement[bool]:
    link = tables.link
    return exists().where(link.c.digest == digest, link.c.repository.startswith(prefix, autoescape=True))
