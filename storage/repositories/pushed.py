"""What clients push: manifests, tags, the blobs of repositories, and references between manifests.

Every method that changes something is one transaction, in which `record` writes down the events to report. A method
that moves or deletes something marks the repository as changed before it returns. New content needs no mark: nobody
caches that something was missing.

Locks are taken in one order, so that two transactions never wait for each other: the lock of a repository's manifests,
rows of blobs in the order of their digests, the repository's own row, links, quotas, manifests.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import BLOB_COLUMNS, StoredBlob, lock_rows, stored_blob
from storage.database import tables
from storage.database.engine import Database
from storage.database.environment_tables import environment
from storage.digest import Descriptor, Digest
from storage.errors import (
    BlobInUse,
    BlobUnknown,
    ManifestUnknown,
    RepositoryOfEnvironment,
    RepositoryUnknown,
    TagImmutable,
    TagTaken,
)
from storage.events.announcements import announce
from storage.events.changes import Changes
from storage.events.outbox import Record
from storage.quotas.limits import Limits
from storage.quotas.protection import list_tags_above
from storage.quotas.room import Room, make_old, release_unnamed
from storage.quotas.tag_limits import check_tags, find_protection
from storage.repositories.places import EVERYWHERE, Places, list_names
from storage.repositories.rows import (
    IN_BODY,
    Push,
    StoredManifest,
    ensure_repository,
    insert_manifest,
    length_of,
    link_blobs,
    lock_manifests,
    note_tags,
    pin_blobs,
)

T = TypeVar("T")

MOUNT_CANDIDATES = 200


@dataclass(frozen=True, slots=True)
class Referrer:
    descriptor: Descriptor
    artifact_type: str | None

    def to_json(self) -> dict[str, Any]:
        """The descriptor in a list of referrers (distribution-spec, "Listing Referrers")."""
        document = self.descriptor.to_json()
        return {**document, "artifactType": self.artifact_type} if self.artifact_type is not None else document


@dataclass(frozen=True)
class Page(Generic[T]):
    """`items` in order; `more` tells whether others follow the last."""

    items: list[T]
    more: bool


class Repositories:
    """Repositories by name. Callers check names and tags when they read a request."""

    def __init__(self, database: Database, changes: Changes, limits: Limits | None = None) -> None:
        self._database = database
        self.changes = changes
        self._limits = limits or Limits()
        self.room = Room(database, changes, self._limits)

    # manifests

    async def manifest(self, repository: str, digest: Digest) -> StoredManifest | None:
        row = tables.repository_manifest
        query = _manifest_query().where(row.c.repository == repository, row.c.digest == digest)
        return await self._one_manifest(query)

    async def find_tagged(self, repository: str, tag: str) -> StoredManifest | None:
        row, name = tables.repository_manifest, tables.tag
        on = (name.c.repository == row.c.repository) & (name.c.digest == row.c.digest)
        query = _manifest_query().join(name, on).where(name.c.repository == repository, name.c.name == tag)
        return await self._one_manifest(query)

    async def _one_manifest(self, query: Any) -> StoredManifest | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return StoredManifest(Digest(row.digest), row.media_type, row.body) if row else None

    async def put_manifest(
        self,
        repository: str,
        push: Push,
        tags: Sequence[str] = (),
        record: Record[None] | None = None,
        *,
        moves: bool = True,
    ) -> None:
        """Store a manifest, pin its blobs, and point `tags` to it.

        Without `moves` no tag is taken from another manifest. Raises ManifestBlobUnknown, SizeMismatch, TagImmutable,
        TagTaken, QuotaExceeded, RepositoryOfEnvironment.
        """
        try:
            await self.room.within(repository, lambda: self._put_manifest(repository, push, tags, record, moves=moves))
        except (TagImmutable, TagTaken, RepositoryOfEnvironment):
            await self.room.give_up_push(repository, [blob.digest for blob in push.blobs])
            raise
        self.changes.mark(repository)

    async def _put_manifest(
        self, repository: str, push: Push, tags: Sequence[str], record: Record[None] | None, *, moves: bool
    ) -> None:
        digest = push.manifest.digest
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            await _check_no_environment(connection, repository)
            pinned = await self._pin(connection, repository, push)
            await check_tags(self._limits, self._database, connection, repository, digest, tags, moves=moves)
            await self._insert(connection, repository, push, pinned, tags)
            if record is not None:
                await record(connection, None)
            await announce(connection, repository)

    async def write_manifest(
        self, connection: AsyncConnection, repository: str, push: Push, tags: Sequence[str]
    ) -> None:
        """Store a manifest in the transaction of something else, which also marks the repository as changed.

        Raises ManifestBlobUnknown, SizeMismatch, QuotaExceeded.
        """
        await lock_manifests(self._database, connection, repository)
        await self._insert(connection, repository, push, await self._pin(connection, repository, push), tags)

    async def _pin(self, connection: AsyncConnection, repository: str, push: Push) -> set[str]:
        pinned = await pin_blobs(connection, repository, push.blobs, push.optional_blobs)
        await ensure_repository(self._database, connection, repository)
        return pinned

    async def _insert(
        self, connection: AsyncConnection, repository: str, push: Push, pinned: set[str], tags: Sequence[str]
    ) -> None:
        digest = push.manifest.digest
        await self.room.check_manifest(connection, repository, digest, len(push.manifest.body))
        await insert_manifest(self._database, connection, repository, push, pinned)
        await self.set_tags(connection, repository, digest, tags)

    async def check_push(self, repository: str, digest: Digest | None, tags: Sequence[str], size: int | None) -> None:
        """Raise TagImmutable or QuotaExceeded if a manifest that has not arrived yet could not be stored.

        `digest` and `size` are None if they are not known yet.
        """

        async def look() -> None:
            async with self._database.reading() as connection:
                await check_tags(self._limits, self._database, connection, repository, digest, tags)
                if size is not None:
                    await self.room.check_manifest(connection, repository, digest or Digest(""), size)

        if not self._limits.concern(repository) and not await self.room.bounds(repository):
            return
        await self.room.within(repository, look)

    async def set_tags(self, connection: AsyncConnection, repository: str, digest: Digest, tags: Sequence[str]) -> None:
        table, now = tables.tag, time.time()
        if not tags:
            return
        query = select(table.c.digest).where(table.c.repository == repository, table.c.name.in_(tags))
        moved = set((await connection.execute(query)).scalars()) - {digest}
        rows = [{"repository": repository, "name": tag, "digest": digest, "updated": now} for tag in sorted(set(tags))]
        statement = self._database.insert(table)
        changed = {"digest": statement.excluded.digest, "updated": now}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["repository", "name"], set_=changed), rows
        )
        await note_tags(connection, repository, {digest, *moved})

    async def delete_manifest(
        self, repository: str, digest: Digest, record: Record[list[str]] | None = None
    ) -> list[str]:
        """Delete a manifest with its tags, and return the tags; raises ManifestUnknown, TagImmutable,
        DeletionForbidden.

        Of an index that an immutable tag leads to, no part can be deleted either.
        """
        table = tables.repository_manifest
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            query = select(tables.tag.c.name).where(
                tables.tag.c.repository == repository, tables.tag.c.digest == digest
            )
            tags = list((await connection.execute(query)).scalars())
            protection = await find_protection(self._limits, connection, repository)
            protection.check_deletion()
            protection.check_change(await list_tags_above(connection, repository, digest))
            use = tables.manifest_blob
            named = select(use.c.digest).where(use.c.repository == repository, use.c.manifest == digest)
            blobs = list((await connection.execute(named)).scalars())
            statement = delete(table).where(table.c.repository == repository, table.c.digest == digest)
            if (await connection.execute(statement)).rowcount == 0:
                raise ManifestUnknown(repository, digest)
            await release_unnamed(connection, repository, blobs)
            if record is not None:
                await record(connection, tags)
            await announce(connection, repository)
        self.changes.mark(repository)
        return tags

    async def delete_tag(self, repository: str, tag: str, record: Record[Digest] | None = None) -> Digest:
        """Delete a tag but not its manifest, and return its digest; raises ManifestUnknown, TagImmutable,
        DeletionForbidden."""
        table = tables.tag
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            protection = await find_protection(self._limits, connection, repository)
            protection.check_deletion()
            protection.check_change([tag])
            statement = delete(table).where(table.c.repository == repository, table.c.name == tag)
            digest = (await connection.execute(statement.returning(table.c.digest))).scalar()
            if digest is None:
                raise ManifestUnknown(repository, tag)
            await note_tags(connection, repository, [digest])
            if record is not None:
                await record(connection, Digest(digest))
            await announce(connection, repository)
        self.changes.mark(repository)
        return Digest(digest)

    # blobs

    async def blob(self, repository: str, digest: Digest) -> StoredBlob:
        """The blob in this repository; raises BlobUnknown, even if another repository has it."""
        link, blob = tables.link, tables.blob
        query = (
            select(*BLOB_COLUMNS)
            .join(link, link.c.digest == blob.c.digest)
            .where(link.c.repository == repository, link.c.digest == digest)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise BlobUnknown(digest)
        return stored_blob(row)

    async def mount(
        self,
        repository: str,
        digest: Digest,
        source: str | None,
        readable: Callable[[str], bool],
        record: Record[StoredBlob] | None = None,
    ) -> StoredBlob | None:
        """Share a blob of `source`, or of any `readable` repository, with `repository`; None if none has it.

        Raises QuotaExceeded.
        """
        return await self.room.within(repository, lambda: self._mount(repository, digest, source, readable, record))

    async def _mount(
        self,
        repository: str,
        digest: Digest,
        source: str | None,
        readable: Callable[[str], bool],
        record: Record[StoredBlob] | None,
    ) -> StoredBlob | None:
        link, blob = tables.link, tables.blob
        query = select(link.c.repository).where(link.c.digest == digest).limit(MOUNT_CANDIDATES)
        if source is not None:
            query = query.where(link.c.repository == source)
        async with self._database.writing() as connection:
            found = [name for name in (await connection.execute(query)).scalars() if readable(name)]
            if not found:
                return None
            statement = update(blob).where(blob.c.digest == digest).values(used=time.time()).returning(*BLOB_COLUMNS)
            row = (await connection.execute(statement)).first()
            if row is None:
                return None
            await self.link(connection, repository, stored_blob(row))
            if record is not None:
                await record(connection, stored_blob(row))
        return stored_blob(row)

    async def link(self, connection: AsyncConnection, repository: str, blob: StoredBlob) -> None:
        """Give the repository a registered blob, within a transaction; raises QuotaExceeded."""
        await ensure_repository(self._database, connection, repository)
        await self.room.check_blob(connection, repository, blob)
        await link_blobs(self._database, connection, repository, [blob.digest])

    async def delete_blob(self, repository: str, digest: Digest, record: Record[None] | None = None) -> None:
        """Remove a blob from a repository; raises BlobUnknown, or BlobInUse while a manifest there names it, or
        DeletionForbidden."""
        link, use = tables.link, tables.manifest_blob
        async with self._database.writing() as connection:
            (await find_protection(self._limits, connection, repository)).check_deletion()
            await make_old(connection, repository, [digest])
            # from here on no new manifest can name it
            await lock_rows(connection, link, link.c.repository == repository, link.c.digest == digest)
            query = select(use.c.manifest).where(use.c.repository == repository, use.c.digest == digest).limit(1)
            if manifest := (await connection.execute(query)).scalar():
                raise BlobInUse(digest, manifest)
            statement = delete(link).where(link.c.repository == repository, link.c.digest == digest)
            if (await connection.execute(statement)).rowcount == 0:
                raise BlobUnknown(digest)
            if record is not None:
                await record(connection, None)
            await announce(connection, repository)
        self.changes.mark(repository)

    # lists

    async def exists(self, repository: str) -> bool:
        """Whether the repository has a row: something was pushed to it and not collected since."""
        async with self._database.reading() as connection:
            return await _exists(connection, repository)

    async def has_manifests(self, repository: str) -> bool:
        """Whether something is stored there that is more than blobs."""
        row = tables.repository_manifest
        async with self._database.reading() as connection:
            return bool((await connection.execute(select(exists().where(row.c.repository == repository)))).scalar())

    async def tags(self, repository: str, last: str | None, limit: int) -> Page[str]:
        """Tags after `last`, sorted by code point; raises RepositoryUnknown."""
        table = tables.tag
        query = select(table.c.name).where(table.c.repository == repository).order_by(table.c.name)
        if last is not None:
            query = query.where(table.c.name > last)
        async with self._database.reading() as connection:
            page = _page((await connection.execute(query.limit(limit + 1))).scalars(), limit)
            if not page.items and not await _exists(connection, repository):
                raise RepositoryUnknown(repository)
        return page

    async def names(self, last: str | None, limit: int, places: Places = EVERYWHERE) -> Page[str]:
        """Names in `places` of repositories that have a manifest, after `last`, sorted by code point.

        A push that was refused or has not ended does not list its repository.
        """
        async with self._database.reading() as connection:
            return _page(await list_names(connection, last, limit + 1, places), limit)

    async def referrers(
        self,
        repository: str,
        subject: Digest,
        artifact_type: str | None,
        last: str | None,
        limit: int,
        most_bytes: int = 4 << 20,
    ) -> Page[Referrer]:
        """The manifests whose subject is `subject`, whether that exists or not, after the digest `last`.

        The page ends soon after their annotations exceed `most_bytes` in all, but has at least one manifest.
        """
        table = tables.repository_manifest
        query = select(table).where(table.c.repository == repository, table.c.subject == subject)
        if artifact_type is not None:
            query = query.where(table.c.artifact_type == artifact_type)
        if last is not None:
            query = query.where(table.c.digest > last)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.order_by(table.c.digest).limit(limit + 1))).all()
        found: list[Referrer] = []
        size = 0
        for row in rows[:limit]:
            if size > most_bytes:
                return Page(found, more=True)
            annotations, length = _keep_annotations(row.annotations)
            if row.annotations == IN_BODY:
                annotations, length = await self._annotations(Digest(row.digest))
            size += length
            found.append(_referrer(row, annotations))
        return Page(found, len(rows) > limit)

    async def _annotations(self, digest: Digest) -> tuple[Mapping[str, str], int]:
        """The annotations in a manifest's body, and their length in characters; nothing if the body is gone."""
        table = tables.manifest
        async with self._database.reading() as connection:
            body = (await connection.execute(select(table.c.body).where(table.c.digest == digest))).scalar()
        # a body may have 4 MB: parse it once, and not in the event loop
        return await asyncio.to_thread(_annotations_of, body) if body is not None else ({}, 0)


async def _check_no_environment(connection: AsyncConnection, repository: str) -> None:
    """Raises RepositoryOfEnvironment where images are built, whatever this process knows of environments."""
    found = exists().where(environment.c.repository == repository, environment.c.deleted.is_(None))
    if (await connection.execute(select(found))).scalar():
        raise RepositoryOfEnvironment(repository)


def _manifest_query() -> Any:
    row, body = tables.repository_manifest, tables.manifest
    return select(row.c.digest, row.c.media_type, body.c.body).join(body, body.c.digest == row.c.digest)


def _page(items: Iterable[T], limit: int) -> Page[T]:
    found = list(items)
    return Page(found[:limit], len(found) > limit)


def _annotations_of(body: bytes) -> tuple[Mapping[str, str], int]:
    """A manifest's annotations, and their length in characters."""
    annotations: Mapping[str, str] = json.loads(body).get("annotations") or {}
    return annotations, length_of(annotations)


def _keep_annotations(text: str | None) -> tuple[Mapping[str, str], int]:
    """The annotations stored beside a manifest, LONGEST_ANNOTATIONS at most, and their length as JSON in characters."""
    return (json.loads(text), len(text)) if text else ({}, 0)


def _referrer(row: Any, annotations: Mapping[str, str]) -> Referrer:
    descriptor = Descriptor(row.media_type, Digest(row.digest), row.size, annotations=annotations)
    return Referrer(descriptor, row.artifact_type)


async def _exists(connection: AsyncConnection, repository: str) -> bool:
    query = select(exists().where(tables.repository.c.name == repository))
    return bool((await connection.execute(query)).scalar())
