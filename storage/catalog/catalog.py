"""Facts of the builder: locks, what names resolved to, finished images and files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Table, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.blobs import touch
from storage.catalog.builds import Builds, Document
from storage.catalog.made import Made
from storage.clock import SKEW_SECONDS, is_within
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Digest
from storage.errors import BlobUnknown, ManifestBlobUnknown
from storage.repositories.repositories import (
    Push,
    StoredManifest,
    ensure_repository,
    insert_manifest,
    link_blobs,
    lock_manifests,
    pin_blobs,
)

USE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Resolution:
    """The lock that a request was last solved to, and when (UNIX seconds)."""

    lock_key: str
    solved: float


class Catalog:
    """The database's tables as methods. Every method is one transaction; documents are JSON-able."""

    def __init__(self, database: Database, made: Made | None = None) -> None:
        self._database = database
        self._made = made or Made(database)
        self.builds = Builds(database)

    # images and files

    async def manifest(self, digest: Digest) -> StoredManifest | None:
        """A manifest of whichever repository has it; for who works on the store itself, not for clients."""
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

    async def put_image(
        self, key: str, lock_key: str, document: Mapping[str, Any], repository: str, pushes: Sequence[Push]
    ) -> None:
        """Record an image, and its manifests and blobs as `repository`'s, at once: nobody meets one without the others.

        Raises ManifestBlobUnknown when a blob is gone (again), SizeMismatch, QuotaExceeded.
        """
        await self._made.within(lambda: self._put_image(key, lock_key, document, repository, pushes))

    async def _put_image(
        self, key: str, lock_key: str, document: Mapping[str, Any], repository: str, pushes: Sequence[Push]
    ) -> None:
        blobs = {blob.digest: blob for push in pushes for blob in push.blobs}
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            found = await touch(connection, blobs)
            if missing := blobs.keys() - found:
                raise ManifestBlobUnknown(repository, sorted(missing))
            await ensure_repository(self._database, connection, repository)
            await link_blobs(self._database, connection, repository, blobs)
            await pin_blobs(connection, repository, list(blobs.values()))
            for push in pushes:
                pinned = [blob.digest for blob in push.blobs]
                await insert_manifest(self._database, connection, repository, push, pinned)
            await self._put_document(connection, tables.image, key, lock_key, document)
            rows = [{"image": key, "digest": push.manifest.digest} for push in pushes]
            await connection.execute(self._database.insert(tables.image_manifest).on_conflict_do_nothing(), rows)
            await _note_lock(connection, lock_key)
            await self._made.check(connection)

    async def image(self, key: str) -> Document | None:
        return await self._document(tables.image, key)

    async def image_of_lock(self, lock_key: str) -> Document | None:
        """The newest image made from a lock, whatever its base."""
        query = (
            select(tables.image.c.document)
            .where(tables.image.c.lock_key == lock_key)
            .order_by(tables.image.c.created.desc())
            .limit(1)
        )
        async with self._database.reading() as connection:
            text = (await connection.execute(query)).scalar()
        return json.loads(text) if text is not None else None

    async def put_artifact(self, key: str, lock_key: str, document: Mapping[str, Any], digest: Digest) -> None:
        """Record a file and the blob that has its bytes.

        Raises BlobUnknown when that is gone (again), QuotaExceeded.
        """
        await self._made.within(lambda: self._put_artifact(key, lock_key, document, digest))

    async def _put_artifact(self, key: str, lock_key: str, document: Mapping[str, Any], digest: Digest) -> None:
        async with self._database.writing() as connection:
            if not await touch(connection, [digest]):
                raise BlobUnknown(digest)
            await self._put_document(connection, tables.artifact, key, lock_key, document, digest=digest)
            await _note_lock(connection, lock_key)
            await self._made.check(connection)

    async def artifact(self, key: str) -> Document | None:
        return await self._document(tables.artifact, key)

    async def look_for_room(self, least: int) -> None:
        """Whether an image or file of at least `least` bytes can come to fit; raises QuotaExceeded."""
        await self._made.look(least)

    # locks and what requests resolved to

    async def lock(self, key: str) -> Document | None:
        async with self._database.reading() as connection:
            text = (await connection.execute(select(tables.lock.c.document).where(tables.lock.c.key == key))).scalar()
        return json.loads(text) if text is not None else None

    async def locks(self, prefix: str, limit: int = 2) -> list[tuple[str, str]]:
        """(key, spec_key) of locks whose key begins with `prefix`, which holds hex digits only; at most `limit`."""
        column = tables.lock.c.key
        query = (
            select(column, tables.lock.c.spec_key)
            .where(column >= prefix, column < prefix + "g")
            .order_by(column)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [(row.key, row.spec_key) for row in await connection.execute(query)]

    async def locks_of_spec(self, spec_key: str) -> list[str]:
        query = select(tables.lock.c.key).where(tables.lock.c.spec_key == spec_key).order_by(tables.lock.c.key)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def lock_of_spec(self, prefix: str) -> Document | None:
        """A lock whose spec's key begins with `prefix`, which holds hex digits only; None unless that is one spec."""
        column = tables.lock.c.spec_key
        query = select(column, tables.lock.c.document).where(column >= prefix, column < prefix + "g").limit(100)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return json.loads(rows[0].document) if len({row.spec_key for row in rows}) == 1 else None

    async def resolution(self, request_key: str) -> Resolution | None:
        table = tables.resolution
        query = select(table.c.lock_key, table.c.solved).where(table.c.request_key == request_key)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return Resolution(row.lock_key, row.solved) if row else None

    async def newest_resolution(self, spec_key: str, until: str | None) -> Resolution | None:
        """What a spec with that cut-off day was last solved to, whatever else its solves depended on."""
        table = tables.resolution
        query = (
            select(table.c.lock_key, table.c.solved)
            .where(table.c.spec_key == spec_key, table.c.until.is_not_distinct_from(until))
            .order_by(table.c.solved.desc())
            .limit(1)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return Resolution(row.lock_key, row.solved) if row else None

    async def put_solve(
        self,
        request_key: str,
        until: str | None,
        solved: float,
        *,
        lock_key: str,
        spec_key: str,
        document: Mapping[str, Any],
    ) -> None:
        """Keep a lock, and that a request is now solved to it: a later solve replaces an earlier one, never the other
        way round."""
        table = tables.resolution
        async with self._database.writing() as connection:
            await self._insert(
                connection,
                tables.lock,
                key=lock_key,
                spec_key=spec_key,
                document=(text := json.dumps(document)),
                size=len(text),
                created=time.time(),
            )
            earlier = (table.c.solved <= solved) | (table.c.solved > time.time() + SKEW_SECONDS)
            await connection.execute(delete(table).where(table.c.request_key == request_key, earlier))
            await self._insert(
                connection,
                table,
                request_key=request_key,
                spec_key=spec_key,
                until=until,
                lock_key=lock_key,
                solved=solved,
            )

    async def forget_resolution(self, request_key: str) -> None:
        """Let the next request be solved anew."""
        async with self._database.writing() as connection:
            await connection.execute(delete(tables.resolution).where(tables.resolution.c.request_key == request_key))

    async def days_of_spec(self, spec_key: str) -> list[str]:
        """The cut-off days for which a spec was solved, sorted."""
        table = tables.resolution
        query = select(table.c.until).where(table.c.spec_key == spec_key, table.c.until.is_not(None))
        async with self._database.reading() as connection:
            return sorted(day for day in (await connection.execute(query)).scalars() if day is not None)

    # shared

    async def note_use(self, kind: Literal["image", "artifact"], key: str) -> None:
        """Write down that an image or file was asked for, and with it its lock, at most once in USE_SECONDS."""
        table, now = (tables.image if kind == "image" else tables.artifact), time.time()
        query = select(table.c.used, table.c.lock_key).where(table.c.key == key)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        if row is not None and not is_within(USE_SECONDS, row.used, now):
            async with self._database.writing() as connection:
                await connection.execute(update(table).where(table.c.key == key).values(used=now))
                await _note_lock(connection, row.lock_key)

    async def pin_lock(self, key: str) -> None:
        """Write down that a lock was asked for by its own tag: of too many it is one of the last to go."""
        table, now = tables.lock, time.time()
        used = func.coalesce(table.c.used, 0.0)
        news = (table.c.key == key) & (table.c.pinned.is_(False) | ~used.between(now - USE_SECONDS, now + SKEW_SECONDS))
        async with self._database.reading() as connection:
            found = (await connection.execute(select(table.c.key).where(news))).first()
        if found:
            async with self._database.writing() as connection:
                await connection.execute(update(table).where(news).values(pinned=True, used=now))

    async def _document(self, table: Table, key: str) -> Document | None:
        async with self._database.reading() as connection:
            text = (await connection.execute(select(table.c.document).where(table.c.key == key))).scalar()
        return json.loads(text) if text is not None else None

    async def _put_document(
        self,
        connection: AsyncConnection,
        table: Table,
        key: str,
        lock_key: str,
        document: Mapping[str, Any],
        **columns: Any,
    ) -> None:
        now = time.time()
        await connection.execute(delete(table).where(table.c.key == key))
        await connection.execute(
            table.insert().values(
                key=key, lock_key=lock_key, document=json.dumps(document), created=now, used=now, **columns
            )
        )

    async def _insert(self, connection: AsyncConnection, table: Table, **values: Any) -> None:
        """Insert a row unless its key is there: rows are named by content, the first is as good as the next."""
        await connection.execute(self._database.insert(table).values(**values).on_conflict_do_nothing())


async def _note_lock(connection: AsyncConnection, key: str) -> None:
    """That something was made of a lock, or asked for that was."""
    await connection.execute(update(tables.lock).where(tables.lock.c.key == key).values(used=time.time()))
