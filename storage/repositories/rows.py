"""The rows of repositories and their manifests, for transactions of several modules."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy import case, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import lock_rows
from storage.database import tables
from storage.database.engine import Database, batches
from storage.digest import Descriptor, Digest
from storage.errors import ManifestBlobUnknown, SizeMismatch

LONGEST_ANNOTATIONS = 32 << 10
"""The most characters of annotations to copy beside a manifest for lists; longer ones are only in its body."""

IN_BODY = ""
"""Stands for annotations that are only in the body."""


@dataclass(frozen=True, slots=True)
class StoredManifest:
    digest: Digest
    media_type: str
    body: bytes

    @classmethod
    def of(cls, media_type: str, body: bytes) -> Self:
        return cls(Digest.of(body), media_type, body)


@dataclass(frozen=True)
class Push:
    """A manifest for a repository, with the facts of its body that the database needs."""

    manifest: StoredManifest
    blobs: Sequence[Descriptor] = ()
    """The blobs that must be in the repository."""
    optional_blobs: Sequence[Descriptor] = ()
    """Blobs that may be in the repository, and are then kept as long as the manifest."""
    children: Sequence[Digest] = ()
    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def length_of(annotations: Mapping[str, str]) -> int:
    return sum(len(key) + len(value) for key, value in annotations.items())


async def lock_manifests(database: Database, connection: AsyncConnection, repository: str) -> None:
    """Lock the manifests and tags of `repository` against other changes until the transaction ends."""
    await database.lock(connection, f"manifests of {repository}")


async def ensure_repository(database: Database, connection: AsyncConnection, repository: str) -> None:
    """Make sure that the repository's row exists until the transaction ends, and after that if it has content."""
    table = tables.repository
    statement = database.insert(table).values(name=repository, created=time.time()).on_conflict_do_nothing()
    query = select(table.c.name).where(table.c.name == repository).with_for_update(read=True, key_share=True)
    while True:
        await connection.execute(statement)
        # the garbage collection may have deleted an empty one since the insert found it
        if (await connection.execute(query)).first() is not None:
            return


async def link_blobs(
    database: Database, connection: AsyncConnection, repository: str, digests: Iterable[Digest]
) -> None:
    """Give the repository registered blobs, as if they were pushed now."""
    now = time.time()
    rows = [{"repository": repository, "digest": digest, "created": now} for digest in sorted(digests)]
    if rows:
        statement = database.insert(tables.link)
        statement = statement.on_conflict_do_update(
            index_elements=["repository", "digest"], set_={"created": now, "released": None}
        )
        await connection.execute(statement, rows)


async def pin_blobs(
    connection: AsyncConnection, repository: str, blobs: Sequence[Descriptor], optional: Sequence[Descriptor] = ()
) -> set[str]:
    """Pin the blobs that a manifest names, and return their digests; raises ManifestBlobUnknown, SizeMismatch.

    Updating the rows locks them against the garbage collection and deletions until the manifest's rows refer to them.
    """
    wanted = {blob.digest: blob.size for blob in (*optional, *blobs)}
    found: dict[str, int] = {}
    for batch in batches(sorted(wanted)):
        found |= await _pin(connection, repository, batch)
    if missing := {blob.digest for blob in blobs} - found.keys():
        raise ManifestBlobUnknown(repository, sorted(missing))
    for digest, size in sorted(found.items()):
        if size != wanted[Digest(digest)]:
            raise SizeMismatch(digest, wanted[Digest(digest)], size)
    return set(found)


async def _pin(connection: AsyncConnection, repository: str, digests: Sequence[str]) -> dict[str, int]:
    """Update the links and blobs that the repository has; return the blobs' sizes."""
    now, link, blob = time.time(), tables.link, tables.blob
    linked = select(link.c.digest).where(link.c.repository == repository, link.c.digest.in_(digests))
    await lock_rows(connection, blob, blob.c.digest.in_(linked))
    statement = update(blob).where(blob.c.digest.in_(linked)).values(used=now)
    sizes = dict(map(tuple, await connection.execute(statement.returning(blob.c.digest, blob.c.size))))
    these = (link.c.repository == repository) & link.c.digest.in_(list(sizes))
    touched = update(link).where(these).values(created=now, released=None).returning(link.c.digest)
    return {digest: sizes[digest] for digest in (await connection.execute(touched)).scalars()}


async def insert_manifest(
    database: Database, connection: AsyncConnection, repository: str, push: Push, pinned: Iterable[str]
) -> None:
    """Insert the rows of a manifest and of the blobs that were `pinned` for it; an existing manifest stays."""
    manifest, now = push.manifest, time.time()
    body = database.insert(tables.manifest).values(digest=manifest.digest, body=manifest.body, created=now)
    await connection.execute(
        # updated, so that the garbage collection keeps a body that it was about to delete
        body.on_conflict_do_update(index_elements=["digest"], set_={"created": now})
    )
    row = database.insert(tables.repository_manifest).values(
        repository=repository,
        digest=manifest.digest,
        media_type=manifest.media_type,
        size=len(manifest.body),
        artifact_type=push.artifact_type,
        annotations=_note_annotations(push),
        subject=push.subject,
        pushed=now,
        untagged=now,
    )
    # a manifest pushed again without a tag is wanted again: its untagged time begins anew
    since = tables.repository_manifest.c.untagged
    changed = {
        "media_type": manifest.media_type,
        "pushed": now,
        "untagged": case((since.is_(None), None), else_=now),
    }
    await connection.execute(row.on_conflict_do_update(index_elements=["repository", "digest"], set_=changed))
    for table, digests in (
        (tables.manifest_blob, set(pinned)),
        (tables.manifest_child, set(push.children)),
    ):
        rows = [{"repository": repository, "manifest": manifest.digest, "digest": each} for each in sorted(digests)]
        if rows:
            await connection.execute(database.insert(table).on_conflict_do_nothing(), rows)


def _note_annotations(push: Push) -> str | None:
    """The copy of a manifest's annotations for lists of referrers; only a manifest with a subject has one."""
    if push.subject is None or not push.annotations:
        return None
    if length_of(push.annotations) > LONGEST_ANNOTATIONS:
        return IN_BODY
    text = json.dumps(dict(push.annotations))
    return text if len(text) <= LONGEST_ANNOTATIONS else IN_BODY


async def note_tags(connection: AsyncConnection, repository: str, digests: Iterable[str]) -> None:
    """Record since when manifests whose tags have changed have had none."""
    table, name = tables.repository_manifest, tables.tag
    has_tag = exists().where(name.c.repository == table.c.repository, name.c.digest == table.c.digest)
    these = (table.c.repository == repository) & table.c.digest.in_(list(digests))
    await connection.execute(update(table).where(these, has_tag).values(untagged=None))
    await connection.execute(
        update(table).where(these, ~has_tag, table.c.untagged.is_(None)).values(untagged=time.time())
    )
