"""Room for on-demand images and files together, under `images_limit` and the quotas of their repository.

The count is what the database has of them: the blobs of the images' repository and of files, each once, and the
manifests. A layer counts with all its bytes, though layers may share fragments. If something new does not fit, the
least recently used images and files are deleted, with their manifests and the blobs that nothing else has. They are
made again, identical, when somebody asks for them. What was used within the last two hours stays, since somebody may
be pulling it. What does not fit beside that is refused.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import BLOB_LINGER_SECONDS, make_pending
from storage.clock import IN_USE_SECONDS
from storage.database import tables
from storage.database.engine import Database
from storage.errors import QuotaExceeded
from storage.events.announcements import announce
from storage.quotas.bounds import Bound, find_namespace_bound, is_root_in, namespace_of
from storage.quotas.held import coming, lock_bounds, sum_held, sum_sizes
from storage.quotas.limits import Limits
from storage.quotas.room import is_unnamed, let_go, release_unnamed
from storage.repositories.rows import lock_manifests

BATCH = 50
"""Images and files deleted in one transaction."""


class NoRoom(Exception):
    """Something has to be deleted first."""

    def __init__(self, bound: Bound, needed: int) -> None:
        super().__init__(bound, needed)
        self.bound = bound
        self.needed = needed


class Made:
    """On-demand content in the repository `limits.root`; `mark` is called with a repository that has changed."""

    def __init__(
        self, database: Database, limits: Limits | None = None, mark: Callable[[str], None] = lambda _: None
    ) -> None:
        limits = limits or Limits()
        self._database = database
        self._mark = mark
        self.limits = limits
        self._root = limits.root
        self._fixed = list(_bounds(limits))

    async def look(self, least: int) -> None:
        """Check before a build whether at least `least` bytes can be made to fit; raises QuotaExceeded."""
        async with self._database.reading() as connection:
            for bound in await self._find_bounds(connection):
                lasting = await self._sum_lasting(connection, bound)
                if max(lasting + 1, least) > bound.limit:
                    raise _refuse(bound, max(lasting + 1, least))

    async def within(self, record: Callable[[], Awaitable[None]]) -> None:
        """Run `record()`, and again as long as deleting something makes room for it; raises QuotaExceeded.

        `record` calls `check` in its transaction.
        """
        while True:
            try:
                return await record()
            except NoRoom as error:
                bound, needed = error.bound, error.needed
            if not await self._make_way(needed - bound.limit):
                raise _refuse(bound, needed)

    async def check(self, connection: AsyncConnection) -> None:
        """Check that all that is recorded fits; raises NoRoom, or QuotaExceeded if deleting could not help."""
        bounds = await self._find_bounds(connection)
        await lock_bounds(self._database, connection, bounds)
        exceeded = [(bound, held) for bound in bounds if (held := await sum_held(connection, bound)) > bound.limit]
        for bound, _ in exceeded:
            if (lasting := await self._sum_lasting(connection, bound)) > bound.limit:
                raise _refuse(bound, lasting)
        if exceeded:
            raise NoRoom(*exceeded[0])

    async def _find_bounds(self, connection: AsyncConnection) -> list[Bound]:
        """The bounds of on-demand content, in the order in which their locks are taken; none without a root."""
        if not self._root:
            return []
        of_namespace = await find_namespace_bound(connection, self.limits, namespace_of(self._root))
        return [*self._fixed, of_namespace] if of_namespace else self._fixed

    # sums

    async def _sum_lasting(self, connection: AsyncConnection, bound: Bound) -> int:
        """The bytes that no deletion here can free: what others pushed, and what was used recently."""
        link, row, file, image = tables.link, tables.repository_manifest, tables.artifact, tables.image
        use, made = tables.manifest_blob, tables.image_manifest
        settled = time.time() - IN_USE_SECONDS
        recent = select(made.c.digest).join(image, image.c.key == made.c.image).where(image.c.used >= settled)
        attached = select(row.c.digest).where(row.c.repository == self._root, row.c.subject.in_(recent))
        named = or_(use.c.manifest.in_(recent), use.c.manifest.in_(attached))
        blobs = union(
            select(link.c.digest).where(link.c.repository != self._root, bound.holds(link.c.repository)),
            select(use.c.digest).where(use.c.repository == self._root, named),
            select(file.c.digest).where(file.c.used >= settled),
        )
        manifests = or_(
            and_(row.c.repository != self._root, bound.holds(row.c.repository)),
            and_(row.c.repository == self._root, or_(row.c.digest.in_(recent), row.c.subject.in_(recent))),
        )
        return await sum_sizes(connection, blobs, manifests) + await coming(connection, bound)

    # giving way

    async def _make_way(self, excess: int) -> bool:
        """Delete the least recently used until about `excess` bytes are free; False if there was nothing to delete."""
        settled = time.time() - IN_USE_SECONDS
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, self._root)
            loose = or_(tables.link.c.released.is_not(None), tables.link.c.created < settled)
            freed = await self._let_go_blobs(connection, loose)
            gone = freed > 0
            for _, let_it_go, key in await self._oldest(connection, settled):
                if freed >= excess:
                    break
                found = await let_it_go(connection, key, settled)
                gone |= found is not None
                freed += found or 0
            await announce(connection, self._root)
        self._mark(self._root)
        return gone

    async def _oldest(self, connection: AsyncConnection, settled: float) -> Sequence[tuple[float, Any, str]]:
        """The least recently used items: time of use, method that deletes it, key."""
        found: list[tuple[float, Any, str]] = []
        for table, let_it_go in ((tables.image, self._let_go_image), (tables.artifact, self._let_go_file)):
            query = select(table.c.used, table.c.key).where(table.c.used < settled).order_by(table.c.used, table.c.key)
            rows = await connection.execute(query.limit(BATCH))
            found += [(row.used, let_it_go, row.key) for row in rows]
        return sorted(found, key=lambda each: (each[0], each[2]))[:BATCH]

    async def _let_go_image(self, connection: AsyncConnection, key: str, settled: float) -> int | None:
        """Delete an image and return the bytes that this frees; None if somebody has just requested it."""
        image, made, use, row = tables.image, tables.image_manifest, tables.manifest_blob, tables.repository_manifest
        this = and_(image.c.key == key, image.c.used < settled)
        if (
            await connection.execute(select(image.c.key).where(this).with_for_update(skip_locked=True))
        ).first() is None:
            return None
        digests = list((await connection.execute(select(made.c.digest).where(made.c.image == key))).scalars())
        attached = select(row.c.digest).where(row.c.repository == self._root, row.c.subject.in_(digests))
        digests += (await connection.execute(attached)).scalars()
        named = select(use.c.digest).where(use.c.repository == self._root, use.c.manifest.in_(digests)).distinct()
        blobs = list((await connection.execute(named)).scalars())
        await connection.execute(delete(image).where(this))
        freed = await self._drop_manifests(connection, digests)
        await release_unnamed(connection, self._root, blobs)
        return freed + await self._let_go_blobs(connection, tables.link.c.digest.in_(blobs))

    async def _drop_manifests(self, connection: AsyncConnection, digests: Sequence[str]) -> int:
        """Delete the manifests that nothing leads to any more, from the index down, and return their bytes.

        What is attached to a manifest goes after it.
        """
        row, tag, child, made = tables.repository_manifest, tables.tag, tables.manifest_child, tables.image_manifest
        upper = row.alias("upper")
        loose = and_(
            row.c.repository == self._root,
            row.c.digest.in_(digests),
            ~exists().where(made.c.digest == row.c.digest),
            ~exists().where(tag.c.repository == row.c.repository, tag.c.digest == row.c.digest),
            ~exists().where(child.c.repository == row.c.repository, child.c.digest == row.c.digest),
            ~exists().where(upper.c.repository == row.c.repository, upper.c.digest == row.c.subject),
        )
        freed = 0
        while sizes := list((await connection.execute(delete(row).where(loose).returning(row.c.size))).scalars()):
            freed += sum(sizes)
        return freed

    async def _let_go_blobs(self, connection: AsyncConnection, these: ColumnElement[bool]) -> int:
        link, blob, file = tables.link, tables.blob, tables.artifact
        spare = and_(link.c.repository == self._root, these, is_unnamed())
        query = (
            select(link.c.repository, link.c.digest, blob.c.size)
            .join(blob, blob.c.digest == link.c.digest)
            .where(spare, ~exists().where(file.c.digest == link.c.digest))
            .order_by(link.c.digest)
        )
        rows = (await connection.execute(query)).all()
        gone = await let_go(connection, rows, spare) if rows else set()
        return sum(row.size for row in rows) if gone else 0

    async def _let_go_file(self, connection: AsyncConnection, key: str, settled: float) -> int | None:
        file, link, blob = tables.artifact, tables.link, tables.blob
        this = and_(file.c.key == key, file.c.used < settled)
        query = select(file.c.digest, file.c.created).where(this).with_for_update(skip_locked=True)
        row = (await connection.execute(query)).first()
        if row is None:
            return None
        await connection.execute(delete(file).where(this))
        unneeded = and_(
            blob.c.digest == row.digest,
            ~exists().where(link.c.digest == blob.c.digest),
            ~exists().where(file.c.digest == blob.c.digest),
        )
        freed = (await connection.execute(select(blob.c.size).where(unneeded))).scalar() or 0
        # a build may have found it in the meantime
        free = select(blob.c.key).where(unneeded, blob.c.used <= row.created).with_for_update(skip_locked=True)
        if (await connection.execute(free)).first() is not None:
            gone = await connection.execute(delete(blob).where(unneeded).returning(blob.c.key))
            keys = [each for each in gone.scalars() if each]
            await make_pending(connection, keys, time.time() + BLOB_LINGER_SECONDS)
        return int(freed)


def _refuse(bound: Bound, needed: int) -> QuotaExceeded:
    advice = f"images used within the last two hours stay: ask again later, or {bound.raising}"
    return QuotaExceeded(bound.name, "bytes", bound.limit, needed, advice)


def _bounds(limits: Limits) -> Iterator[Bound]:
    root = limits.root
    if not root:
        return
    if limits.images:
        yield Bound(limits.images, root, title="all on-demand images together", setting="images_limit", root=root)
    for quota in limits.quotas:
        if is_root_in(quota.pattern, root):
            if quota.bytes is not None:
                yield Bound.of_pattern(quota.bytes, quota.pattern, root)
            return
