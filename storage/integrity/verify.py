"""Checks that every stored byte matches its digest, and that every reference leads to something.

It reads everything, several blobs at a time, beside the running server. What is deleted meanwhile is not damage.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import exists, select

from storage.blobs.joins import FragmentPart
from storage.blobs.rows import BLOB_COLUMNS, StoredBlob, stored_blob
from storage.blobs.store import BlobStore
from storage.database import tables
from storage.database.log_tables import environment_log
from storage.digest import Digest
from storage.errors import BlobUnknown, JsonInvalid, ManifestInvalid, ObjectMissing
from storage.repositories.manifest_document import read_manifest

AT_ONCE = 4
BATCH = 200
MANIFESTS = 50
"""Manifests in memory at once."""

Progress = Callable[[int, int], None]
"""Bytes read, bytes in all."""


@dataclass(frozen=True)
class Damage:
    """A damaged blob or manifest, and what needs it: `repository` or `repository:tag`."""

    digest: str
    kind: str
    problem: str
    needed_by: tuple[str, ...] = ()


@dataclass
class Verification:
    """What was read and found; `bytes` counts those of blobs."""

    blobs: int = 0
    manifests: int = 0
    bytes: int = 0
    damage: list[Damage] = field(default_factory=list)
    broken_blobs: list[StoredBlob] = field(default_factory=list)
    broken_manifests: list[Digest] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "blobs": self.blobs,
            "manifests": self.manifests,
            "bytes": self.bytes,
            "damage": [asdict(each) for each in self.damage],
        }


class Verifier:
    """Reads everything once."""

    def __init__(self, blobs: BlobStore, progress: Progress = lambda _done, _total: None) -> None:
        self._blobs = blobs
        self._database = blobs.database
        self._progress = progress
        self._total = 0
        self._counting = threading.Lock()
        self._result = Verification()

    async def verify(self) -> Verification:
        """Raises StorageUnavailable if the database or store does not answer; that says nothing about their content."""
        self._total = sum([blob.size async for blob in self._read_stored()])
        await self._check_blobs()
        async for bodies in self._bodies():
            await self._check_bodies(bodies)
        self._result.damage.sort(key=lambda each: (each.kind, each.digest))
        return self._result

    # blobs

    async def _check_blobs(self) -> None:
        stored, taking = self._read_stored(), asyncio.Lock()

        async def work() -> None:
            while True:
                async with taking:
                    blob = await anext(stored, None)
                if blob is None:
                    return
                await self._check_blob(blob)

        tasks = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await stored.aclose()

    async def _check_blob(self, blob: StoredBlob) -> None:
        self._result.blobs += 1
        problem = await asyncio.to_thread(self._problem, blob)
        if problem is not None and await self._is_still(blob):
            self._result.broken_blobs.append(blob)
            self._result.damage.append(Damage(blob.digest, "blob", problem, await self._needed_by(blob.digest)))

    def _problem(self, blob: StoredBlob) -> str | None:
        hasher, size = blob.digest.hasher(), 0
        try:
            for chunk in self._blobs.read(blob):
                hasher.update(chunk)
                size += len(chunk)
                self._count(len(chunk))
        except (ObjectMissing, FileNotFoundError):
            return self._missing(blob)
        except EOFError as error:
            return str(error)
        except OSError as error:
            return f"its bytes cannot be read: {error.strerror}"
        found = Digest.of_hasher(hasher)
        return None if found == blob.digest else f"its {size} bytes have digest {found}"

    def _missing(self, blob: StoredBlob) -> str:
        keys = [part.key for part in blob.parts if isinstance(part, FragmentPart)]
        if not keys:
            return "its bytes are missing"
        lost = [key for key in keys if not self._blobs.fragment_path(key).exists()]
        return f"{len(lost)} of the {len(keys)} fragments it consists of are missing"

    def _count(self, size: int) -> None:
        with self._counting:
            self._result.bytes += size
            done = self._result.bytes
        self._progress(done, self._total)

    async def _is_still(self, blob: StoredBlob) -> bool:
        """Whether it still exists: it may have been deleted while it was read."""
        with contextlib.suppress(BlobUnknown):
            return await self._blobs.find(blob.digest) == blob
        return False

    async def _needed_by(self, digest: Digest) -> tuple[str, ...]:
        link, use, file = tables.link, tables.manifest_blob, tables.artifact
        linked = select(link.c.repository).where(link.c.digest == digest)
        needing = select(use.c.repository, use.c.manifest).where(use.c.digest == digest)
        files = select(exists().where(file.c.digest == digest))
        logs = select(environment_log.c.build).where(environment_log.c.digest == digest)
        async with self._database.reading() as connection:
            found = set((await connection.execute(linked)).scalars())
            manifests = [_Place(*row) for row in await connection.execute(needing)]
            if (await connection.execute(files)).scalar():
                found.add("a file beside an image")
            found.update(f"the log of build {build}" for build in (await connection.execute(logs)).scalars())
        names = await self._names(manifests)
        # a blob that is there for a manifest is reported with that manifest's tags
        return tuple(sorted((found - {place.repository for place in manifests}) | {*sum(names.values(), ())}))

    # manifests

    async def _check_bodies(self, bodies: Mapping[Digest, bytes]) -> None:
        self._result.manifests += len(bodies)
        broken = {digest: found for digest, body in bodies.items() if (found := digest_of(body, digest)) != digest}
        places = await self._places(bodies)
        for digest, found in broken.items():
            names = await self._names([place for place in places if place.digest == digest])
            self._result.broken_manifests.append(digest)
            self._result.damage.append(
                Damage(digest, "manifest", f"its content has digest {found}", tuple(sorted(sum(names.values(), ()))))
            )
        pinned = await self._find_pinned(bodies)
        for place, media_type in places.items():
            lacking = _blobs_of(media_type, bodies[place.digest]) - pinned[place]
            if lacking and place.digest not in broken and await self._is_there(place, lacking):
                names = await self._names([place])
                problem = f"it names {', '.join(sorted(lacking))}, not stored in {place.repository} for it"
                self._result.damage.append(Damage(place.digest, "manifest", problem, names[place]))

    async def _places(self, digests: Mapping[Digest, bytes]) -> dict[_Place, str]:
        """The repositories in which manifests must be whole, and their media types. Copies may lack blobs."""
        row, copy = tables.repository_manifest, tables.mirrored_manifest
        is_copy = exists().where(copy.c.repository == row.c.repository, copy.c.digest == row.c.digest)
        query = select(row.c.repository, row.c.digest, row.c.media_type).where(
            row.c.digest.in_(list(digests)), ~is_copy
        )
        async with self._database.reading() as connection:
            return {_Place(found[0], Digest(found[1])): found[2] for found in await connection.execute(query)}

    async def _find_pinned(self, digests: Mapping[Digest, bytes]) -> dict[_Place, set[str]]:
        use = tables.manifest_blob
        query = select(use.c.repository, use.c.manifest, use.c.digest).where(use.c.manifest.in_(list(digests)))
        pinned: dict[_Place, set[str]] = defaultdict(set)
        async with self._database.reading() as connection:
            for row in await connection.execute(query):
                pinned[_Place(row[0], Digest(row[1]))].add(row[2])
        return pinned

    async def _is_there(self, place: _Place, lacking: set[str]) -> bool:
        """Whether it still lacks them: it may have been deleted or pushed again while it was checked."""
        return place in await self._places({place.digest: b""}) and bool(
            lacking - (await self._find_pinned({place.digest: b""}))[place]
        )

    async def _names(self, places: Sequence[_Place]) -> dict[_Place, tuple[str, ...]]:
        """`repository:tag` for each tag of a manifest, or just the repository if it has none."""
        names: dict[_Place, tuple[str, ...]] = {}
        tag = tables.tag
        for place in places:
            query = select(tag.c.name).where(tag.c.repository == place.repository, tag.c.digest == place.digest)
            async with self._database.reading() as connection:
                tags = sorted((await connection.execute(query)).scalars())
            names[place] = tuple(f"{place.repository}:{each}" for each in tags) or (place.repository,)
        return names

    # pages

    async def _read_stored(self) -> AsyncGenerator[StoredBlob, None]:
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

    async def _bodies(self) -> AsyncIterator[dict[Digest, bytes]]:
        table, last = tables.manifest, ""
        while True:
            query = select(table.c.digest, table.c.body).where(table.c.digest > last).order_by(table.c.digest)
            async with self._database.reading() as connection:
                rows = (await connection.execute(query.limit(MANIFESTS))).all()
            if not rows:
                return
            yield {Digest(row.digest): row.body for row in rows}
            last = rows[-1].digest


class _Place(NamedTuple):
    """A manifest in one repository."""

    repository: str
    digest: Digest


def digest_of(body: bytes, like: Digest) -> Digest:
    hasher = like.hasher()
    hasher.update(body)
    return Digest.of_hasher(hasher)


def _blobs_of(media_type: str, body: bytes) -> set[str]:
    """The blobs that must be there; none for a manifest that cannot be read."""
    with contextlib.suppress(JsonInvalid, ManifestInvalid):
        return {blob.digest for blob in read_manifest(media_type, body).blobs}
    return set()
