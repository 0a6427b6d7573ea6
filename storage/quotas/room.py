"""Room under the quotas: what counts, what is deleted when there is no room, and what is refused.

A quota, of a pattern or of a namespace, counts what the disk holds for its repositories: blobs and manifests, each
once, upload sessions, and bytes that are still arriving. Where the repository of on-demand content is among them, the
files that are made on demand count, too. If something new does not fit, content that nobody waits for is deleted: blobs
that no manifest names because their push was refused or is long over, or because the last manifest was deleted, and
upload sessions that have fallen silent. If that makes enough room, the new content is stored. If all of it would not be
enough, the request is refused and nothing is deleted, since a client may claim any size; then the refused push's own
blobs are the next that may be deleted.

If a push loses a blob this way while it still runs, it gets the same error as after a garbage collection when it names
the blob.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    FromClause,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import BLOB_LINGER_SECONDS, StoredBlob, lock_rows, make_pending
from storage.database import tables
from storage.database.engine import Database
from storage.database.log_tables import environment_log
from storage.database.sql_clock import is_before
from storage.digest import Digest
from storage.errors import QuotaExceeded
from storage.events.announcements import announce
from storage.events.changes import Changes
from storage.quotas.bounds import Bound, find_bounds
from storage.quotas.held import coming, lock_bounds, sum_column, sum_held
from storage.quotas.limits import Limits

T = TypeVar("T")

SILENT_SECONDS = 600.0
"""An upload session may be deleted to make room after this time without a request."""

BATCH = 50
"""The most things deleted in one transaction, which blocks all other writers on SQLite."""

ROUNDS = 1000
"""How often to make room for one request: others may take the room meanwhile."""


class Room:
    """The content of repositories, checked against the quotas of `limits`."""

    def __init__(self, database: Database, changes: Changes, limits: Limits) -> None:
        self._database = database
        self._changes = changes
        self._limits = limits

    async def bounds(self, repository: str) -> bool:
        """Whether the repository's bytes have a quota now."""
        async with self._database.reading() as connection:
            return bool(await find_bounds(connection, self._limits, repository))

    async def measure(self, namespace: str) -> int:
        """The bytes that the repositories of a namespace hold, by the count of its quota."""
        async with self._database.reading() as connection:
            return await sum_held(connection, Bound.of_namespace(0, namespace, self._limits.root))

    async def check_blob(self, connection: AsyncConnection, repository: str, blob: StoredBlob) -> None:
        """Check that a registered blob fits into the repository; raises QuotaExceeded."""
        await self.check(connection, repository, blob.size, without_blob=blob.digest)

    async def check_manifest(self, connection: AsyncConnection, repository: str, digest: Digest, size: int) -> None:
        """Check that a manifest fits; raises QuotaExceeded."""
        await self.check(connection, repository, size, without_manifest=digest)

    async def check(
        self,
        connection: AsyncConnection,
        repository: str,
        size: int,
        *,
        without_blob: str = "",
        without_manifest: str = "",
        without: Collection[str] = (),
    ) -> None:
        """Check that `size` more bytes fit, without counting the things named; raises QuotaExceeded.

        `without` are ids of upload sessions and keys of pending objects.
        """
        bounds = await find_bounds(connection, self._limits, repository)
        await lock_bounds(self._database, connection, bounds)
        exceeded = []
        for bound in bounds:
            held = await sum_held(connection, bound, without_blob, without_manifest, without)
            if held + size > bound.limit:
                exceeded.append(bound.refuse(held, held + size, pushed=without_blob))
        if exceeded:
            exceeded[0].also = exceeded[1:]
            raise exceeded[0]

    async def within(self, repository: str, attempt: Callable[[], Awaitable[T]], own: Collection[str] = ()) -> T:
        """Run `attempt()`, and again as long as deleting something makes room for it.

        If nothing more can be deleted, QuotaExceeded is raised. From then on the blobs that were pushed to the
        repository and that no manifest names may be deleted for others. `own` are ids of upload sessions and keys of
        pending objects that are the attempt's own, so the error does not advise to wait for them.
        """
        for _ in range(ROUNDS):
            try:
                return await attempt()
            except QuotaExceeded as error:
                refused = error
            if refused.what != "bytes":
                break
            hopeless = await self._make_way(repository, refused)
            if hopeless is not None:
                refused = hopeless
                break
        await self.give_up_push(repository)
        raise await self._explain(repository, refused, own)

    async def hold(self, repository: str, key: str, size: int, seconds: float, digest: str = "") -> None:
        """Count `size` bytes for the pending object `key` for `seconds`; raises QuotaExceeded.

        If the blob `digest` is already here, they replace its bytes in the count. An object that is not pending any
        more counts as what it has become.
        """
        table = tables.pending
        async with self._database.writing() as connection:
            # the row before the quota, as whoever takes the object off the list: neither waits for the other
            values = {"repository": repository, "size": size, "held_until": time.time() + seconds}
            held = await connection.execute(update(table).where(table.c.key == key).values(**values))
            if held.rowcount:
                await self.check(connection, repository, size, without=(key,), without_blob=digest)

    # giving way

    async def _make_way(self, repository: str, refused: QuotaExceeded) -> QuotaExceeded | None:
        """Delete some of what nobody waits for, if all of it is enough for every limit that is exceeded.

        Returns the refusal that nothing helps against. None means that it is worth another attempt.
        """
        changed: set[str] = set()
        sessions: list[str] = []
        async with self._database.writing() as connection:
            bounds = {bound.name: bound for bound in await find_bounds(connection, self._limits, repository)}
            # a limit may have been lifted meanwhile
            exceeded = [(bounds[each.prefix], each) for each in (refused, *refused.also) if each.prefix in bounds]
            for bound, _ in exceeded:
                await self._database.lock(connection, bound.lock)
            for bound, each in exceeded:
                spare = _spare(bound, self._limits.grace, each.pushed)
                if await _spare_bytes(connection, bound, spare) < each.excess:
                    return each
            for bound, each in exceeded[:1]:
                spare = _spare(bound, self._limits.grace, each.pushed)
                if links := await _spare_links(connection, spare, each.excess):
                    changed = await let_go(connection, links, spare)
                if not changed:
                    # there are none, or other transactions hold them
                    sessions = await _silent_sessions(connection, bound, each.excess)
                    await end_sessions(connection, sessions)
        for name in changed:
            self._changes.mark(name)
        return None if changed or sessions or not exceeded else refused

    async def give_up_push(self, repository: str, digests: Collection[str] | None = None) -> None:
        """Let blobs of the repository that no manifest names be deleted for others, or by the garbage collection.

        All of them, or only those of `digests`.
        """
        if not await self.bounds(repository) and self._limits.quota(repository) is None:
            return
        link, now = tables.link, time.time()
        these = and_(link.c.repository == repository, is_unnamed())
        if digests is not None:
            these = and_(these, link.c.digest.in_(list(digests)))
        async with self._database.writing() as connection:
            found = (await connection.execute(select(link.c.digest).where(these))).scalars()
            await make_old(connection, repository, list(found))
            await lock_rows(connection, link, these)
            await connection.execute(update(link).where(these).values(released=now, created=0.0))

    async def _explain(self, repository: str, refused: QuotaExceeded, own: Collection[str]) -> QuotaExceeded:
        """Return the error with advice on what would help."""
        if refused.what != "bytes":
            return refused
        row, tag, child = tables.repository_manifest, tables.tag, tables.manifest_child
        tagged = exists().where(tag.c.repository == row.c.repository, tag.c.digest == row.c.digest)
        in_index = exists().where(child.c.repository == row.c.repository, child.c.digest == row.c.digest)
        async with self._database.reading() as connection:
            bounds = await find_bounds(connection, self._limits, repository)
            bound = next((each for each in bounds if each.name == refused.prefix), None)
            if bound is None:
                return refused
            untagged = select(func.count()).where(bound.holds(row.c.repository), ~tagged, ~in_index)
            count = int((await connection.execute(untagged)).scalar_one())
            arriving = await coming(connection, bound, own)
        advice = "delete images by their digests, which makes room at once"
        if count:
            advice += f"; {count:,} manifests there have no tag any more"
        if arriving:
            advice += f"; {arriving:,} bytes belong to unfinished uploads, which give way after {SILENT_SECONDS:.0f} s"
        advice += f"; an administrator can {bound.raising}"
        return bound.refuse(refused.held or 0, refused.needed, advice)


async def release_unnamed(connection: AsyncConnection, repository: str, digests: Collection[str]) -> None:
    """Let those of `digests` be deleted for others that no manifest of the repository names any more."""
    link = tables.link
    these = and_(link.c.repository == repository, link.c.digest.in_(list(digests)), is_unnamed())
    await lock_rows(connection, link, these)
    await connection.execute(update(link).where(these).values(released=time.time()))


async def make_old(connection: AsyncConnection, repository: str, digests: Sequence[str]) -> None:
    """Let the next garbage collection delete blobs that only this repository has needed since it got them."""
    link, other, blob, file = tables.link, tables.link.alias("other"), tables.blob, tables.artifact
    these = and_(
        blob.c.digest.in_(digests),
        exists().where(
            link.c.digest == blob.c.digest, link.c.repository == repository, blob.c.used <= link.c.created
        ),
        ~exists().where(other.c.digest == blob.c.digest, other.c.repository != repository),
        ~exists().where(file.c.digest == blob.c.digest),
    )  # fmt: skip
    await lock_rows(connection, blob, these)
    await connection.execute(update(blob).where(these).values(used=0.0))


async def let_go(connection: AsyncConnection, links: Sequence[Any], condition: ColumnElement[bool]) -> set[str]:
    """Take from repositories those of `links` for which `condition` still holds; return the repositories changed.

    A blob that nothing has needed since is deleted with its last link; its bytes stay until current readers are done.
    """
    link, blob, file = tables.link, tables.blob, tables.artifact
    changed: set[str] = set()
    for row in links:
        this = and_(link.c.repository == row.repository, link.c.digest == row.digest)
        # a push may be about to name it
        free = select(link.c.created).where(this, condition).with_for_update(skip_locked=True)
        created = (await connection.execute(free)).scalar()
        gone = await connection.execute(delete(link).where(this, condition)) if created is not None else None
        if created is None or gone is None or gone.rowcount != 1:
            continue
        changed.add(row.repository)
        unneeded = and_(
            blob.c.digest == row.digest,
            blob.c.used <= created,
            ~exists().where(link.c.digest == blob.c.digest),
            ~exists().where(file.c.digest == blob.c.digest),
            ~exists().where(environment_log.c.digest == blob.c.digest),
        )
        if (await connection.execute(select(blob.c.key).where(unneeded).with_for_update(skip_locked=True))).first():
            keys = (await connection.execute(delete(blob).where(unneeded).returning(blob.c.key))).scalars()
            await make_pending(connection, [key for key in keys if key], time.time() + BLOB_LINGER_SECONDS)
    for repository in changed:
        await announce(connection, repository)
    return changed


async def end_sessions(connection: AsyncConnection, sessions: Sequence[str]) -> None:
    upload, part = tables.upload, tables.upload_part
    keys = (await connection.execute(select(part.c.key).where(part.c.upload.in_(sessions)))).scalars()
    await make_pending(connection, list(keys), time.time())
    await connection.execute(delete(upload).where(upload.c.id.in_(sessions)))


def is_unnamed(link: FromClause = tables.link) -> ColumnElement[bool]:
    use = tables.manifest_blob
    return ~exists().where(use.c.repository == link.c.repository, use.c.digest == link.c.digest)


def _spare(bound: Bound, grace: float, pushed: str) -> ColumnElement[bool]:
    """Whether a link may be deleted for others: it, and every other link that makes its blob count.

    The blob being pushed does not count, since deleting it would make no room.
    """
    link, other, file = tables.link, tables.link.alias("other"), tables.artifact
    needed = exists().where(other.c.digest == link.c.digest, bound.holds(other.c.repository), ~_is_idle(other, grace))
    kept = or_(needed, exists().where(file.c.digest == link.c.digest)) if bound.root else needed
    return and_(bound.holds(link.c.repository), link.c.digest != pushed, _is_idle(link, grace), ~kept)


def _is_idle(link: FromClause, grace: float) -> ColumnElement[bool]:
    """Whether nobody waits for a link."""
    now = time.time()
    return and_(or_(link.c.released.is_not(None), is_before(link.c.created, now - grace, now)), is_unnamed(link))


async def _spare_bytes(connection: AsyncConnection, bound: Bound, spare: ColumnElement[bool]) -> int:
    """How many bytes would stop counting if everything spare were deleted."""
    blob, upload = tables.blob, tables.upload
    blobs = select(sum_column(blob.c.size)).where(blob.c.digest.in_(select(tables.link.c.digest).where(spare)))
    sessions = select(sum_column(upload.c.size)).where(_is_silent(bound))
    return sum([int((await connection.execute(query)).scalar_one()) for query in (blobs, sessions)])


async def _spare_links(connection: AsyncConnection, spare: ColumnElement[bool], excess: int) -> list[Any]:
    link, blob = tables.link, tables.blob
    query = (
        select(link.c.repository, link.c.digest, blob.c.size)
        .join(blob, blob.c.digest == link.c.digest)
        .where(spare)
        .order_by(func.coalesce(link.c.released, link.c.created), link.c.repository, link.c.digest)
        .limit(BATCH)
    )
    return _enough((await connection.execute(query)).all(), excess)


def _is_silent(bound: Bound) -> ColumnElement[bool]:
    table = tables.upload
    now = time.time()
    return and_(bound.holds(table.c.repository), is_before(table.c.touched, now - SILENT_SECONDS, now))


async def _silent_sessions(connection: AsyncConnection, bound: Bound, excess: int) -> list[str]:
    table = tables.upload
    query = select(table.c.id, table.c.size).where(_is_silent(bound)).order_by(table.c.touched, table.c.id)
    found = (await connection.execute(query.limit(BATCH).with_for_update(skip_locked=True))).all()
    return [row.id for row in _enough([row for row in found if row.size], excess)]


def _enough(rows: Sequence[Any], size: int) -> list[Any]:
    """The shortest beginning of `rows` that has `size` bytes in all."""
    chosen: list[Any] = []
    for row in rows:
        if size <= 0:
            break
        chosen.append(row)
        size -= row.size
    return chosen
