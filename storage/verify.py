"""Whether every stored byte is what its digest says, and everything that is referred to is there.

Reads all of it, several blobs at a time, while the server goes on. What is deleted meanwhile is no damage.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import tables
from storage.announcements import announce
from storage.blobs import BLOB_COLUMNS, FRAGMENTS_LOCK, BlobStore, StoredBlob, make_pending, stored_blob
from storage.changes import Changes
from storage.database import batches
from storage.digest import Digest
from storage.errors import BlobUnknown, ObjectMissing
from storage.joins import FragmentPart

AT_ONCE = 4
BATCH = 200

Progress = Callable[[int, int], None]
"""Bytes read, bytes in all."""


@dataclass(frozen=True)
class Damage:
    """Bytes that are not there or not what their digest says, and where they are needed: `repository` or
    `repository:tag` of what names them."""

    digest: str
    kind: str
    problem: str
    needed_by: tuple[str, ...] = ()


@dataclass
class Verification:
    blobs: int = 0
    manifests: int = 0
    bytes: int = 0
    damage: list[Damage] = field(default_factory=list)
    forgotten: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "blobs": self.blobs,
            "manifests": self.manifests,
            "bytes": self.bytes,
            "damage": [asdict(each) for each in self.damage],
            "forgotten": self.forgotten,
        }


class Verifier:
    """Reads everything once."""

    def __init__(self, blobs: BlobStore, changes: Changes, progress: Progress = lambda _done, _total: None) -> None:
        self._blobs = blobs
        self._database = blobs.database
        self._changes = changes
        self._progress = progress
        self._total = 0
        self._result = Verification()
        self._broken: list[StoredBlob] = []

    async def verify(self) -> Verification:
        """Raises StorageUnavailable when database or store do not answer, which says nothing of what they hold."""
        self._total = sum([blob.size async for blob in self._stored()])
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(blob: StoredBlob) -> None:
            async with limit:
                await self._check_blob(blob)

        async with asyncio.TaskGroup() as group:
            async for blob in self._stored():
                await limit.acquire()
                limit.release()
                group.create_task(one(blob))
        async for digest, body in self._bodies():
            self._result.manifests += 1
            hasher = digest.hasher()
            hasher.update(body)
            if Digest.of_hasher(hasher) != digest:
                await self._damaged(digest, "manifest", f"its content has digest {Digest.of_hasher(hasher)}")
        return self._result

    async def repair(self) -> None:
        """Forget the blobs that were found damaged, so that the next push or build stores them again.

        Manifests that need them stay, and cannot be pulled whole until then; images made on demand are made again.
        """
        for blob in self._broken:
            async with self._database.writing() as connection:
                repositories = await _forget(connection, blob.digest)
                for repository in repositories:
                    await announce(connection, repository)
            for repository in repositories:
                self._changes.mark(repository)
            self._result.forgotten += 1
        await self._drop_fragments(
            {part.key for blob in self._broken for part in blob.parts if isinstance(part, FragmentPart)}
        )

    async def _drop_fragments(self, keys: set[str]) -> None:
        """Of the broken joins' fragments those that no sound join has: the next build would take them for good."""
        use = tables.fragment_use
        async with self._database.writing() as connection:
            await self._database.lock(connection, FRAGMENTS_LOCK)
            for batch in batches(sorted(keys)):
                query = select(use.c.fragment).where(use.c.fragment.in_(batch)).distinct()
                sound = set((await connection.execute(query)).scalars())
                for key in set(batch) - sound:
                    path = self._blobs.fragment_path(key)
                    for each in (path, path.with_name(f"{key}.json")):
                        each.unlink(missing_ok=True)

    async def _check_blob(self, blob: StoredBlob) -> None:
        self._result.blobs += 1
        problem = await asyncio.to_thread(self._problem, blob)
        if problem is not None and await self._is_still(blob):
            self._broken.append(blob)
            await self._damaged(blob.digest, "blob", problem)

    def _problem(self, blob: StoredBlob) -> str | None:
        hasher, size = blob.digest.hasher(), 0
        try:
            for chunk in self._blobs.read(blob):
                hasher.update(chunk)
                size += len(chunk)
                self._result.bytes += len(chunk)
                self._progress(self._result.bytes, self._total)
        except (ObjectMissing, FileNotFoundError):
            return "its bytes are missing"
        except EOFError as error:
            return str(error)
        except OSError as error:
            return f"its bytes cannot be read: {error.strerror}"
        found = Digest.of_hasher(hasher)
        return None if found == blob.digest else f"its {size} bytes have digest {found}"

    async def _is_still(self, blob: StoredBlob) -> bool:
        """Whether it was not deleted while it was read."""
        with contextlib.suppress(BlobUnknown):
            return await self._blobs.find(blob.digest) == blob
        return False

    async def _damaged(self, digest: Digest, kind: str, problem: str) -> None:
        self._result.damage.append(Damage(digest, kind, problem, tuple(await self._needed_by(digest))))

    async def _needed_by(self, digest: Digest) -> Sequence[str]:
        use, tag, row = tables.manifest_blob, tables.tag, tables.repository_manifest
        by_blob = select(use.c.repository, use.c.manifest).where(use.c.digest == digest)
        itself = select(row.c.repository, row.c.digest).where(row.c.digest == digest)
        needing = by_blob.union(itself).subquery("needing")
        on = (tag.c.repository == needing.c.repository) & (tag.c.digest == needing.c.manifest)
        query = select(needing.c.repository, tag.c.name).join(tag, on, isouter=True).distinct()
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return sorted({f"{row[0]}:{row[1]}" if row[1] else str(row[0]) for row in rows})

    async def _stored(self) -> AsyncIterator[StoredBlob]:
        table, last = tables.blob, ""
        while True:
            query = select(*BLOB_COLUMNS).where(table.c.digest > last).order_by(table.c.digest).limit(BATCH)
            async with self._database.reading() as connection:
                found = [stored_blob(row) for row in await connection.execute(query)]
            for blob in found:
                yield blob
            if not found:
                return
            last = found[-1].digest

    async def _bodies(self) -> AsyncIterator[tuple[Digest, bytes]]:
        table, last = tables.manifest, ""
        while True:
            query = select(table.c.digest, table.c.body).where(table.c.digest > last).order_by(table.c.digest).limit(50)
            async with self._database.reading() as connection:
                rows = (await connection.execute(query)).all()
            for row in rows:
                yield Digest(row.digest), row.body
            if not rows:
                return
            last = rows[-1].digest


async def _forget(connection: AsyncConnection, digest: str) -> list[str]:
    """Take a blob's rows away, and of the manifests that need it only what pins it; the repositories concerned."""
    blob, link, use, made = tables.blob, tables.link, tables.manifest_blob, tables.image_manifest
    needing = select(use.c.manifest).where(use.c.digest == digest)
    images = select(made.c.image).where(made.c.digest.in_(needing))
    await connection.execute(delete(tables.image).where(tables.image.c.key.in_(images)))
    query = select(link.c.repository).where(link.c.digest == digest)
    repositories = list((await connection.execute(query)).scalars())
    await connection.execute(delete(use).where(use.c.digest == digest))
    await connection.execute(delete(link).where(link.c.digest == digest))
    await connection.execute(delete(tables.artifact).where(tables.artifact.c.digest == digest))
    key = (await connection.execute(delete(blob).where(blob.c.digest == digest).returning(blob.c.key))).scalar()
    if key is not None:
        await make_pending(connection, [key], 0.0)
    return repositories
