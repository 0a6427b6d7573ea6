"""Garbage collection beside a running server.

Each step deletes rows of one kind in batches, in transactions short enough for pushes to run between them. A step first
only reads which rows are garbage. The transaction that deletes them locks those that nobody else has locked, and checks
them again. A push locks the rows that it needs, and changes what the check sees. So either the push finds the rows gone
and reports it, or they stay.

The transaction that deletes a blob's row records its bytes as pending; these are deleted some time later. A collection
that ends half-way has done part of its work, and the next one does the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import DOOMED, WRITE_SECONDS, make_pending
from storage.blobs.store import BlobStore
from storage.cancellation import to_end
from storage.database import tables
from storage.database.engine import Database, batches
from storage.database.sql_clock import database_time, is_before, mend
from storage.events.announcements import announce
from storage.events.changes import Changes
from storage.garbage.retention import find_given_up, is_given_up, rule_of
from storage.garbage.rings import find_rings, repositories_with_rings
from storage.garbage.rules import (
    BLOBS,
    BUILD_SILENT_SECONDS,
    KINDS,
    MANIFESTS,
    TAGS,
    UPLOADS,
    Bounds,
    GarbageKind,
    GarbagePolicy,
    Rules,
    lock_needed,
)
from storage.quotas.limits import Retention
from storage.quotas.tag_limits import find_protection
from storage.repositories.rows import lock_manifests, note_tags

BATCH = 200
"""Rows deleted in one transaction."""

OBJECTS = "objects"
"""The step that deletes bytes that belong to nobody: those of deleted rows, and of writes that never ended."""


@dataclass(frozen=True)
class Step:
    """What one step deleted: the number of rows, and the bytes that this frees on disk."""

    name: str
    count: int = 0
    bytes: int = 0

    def __add__(self, other: Step) -> Step:
        return Step(self.name, self.count + other.count, self.bytes + other.bytes)


@dataclass
class CollectionReport:
    """What a collection deleted, or with `dry_run` would have deleted."""

    dry_run: bool = False
    steps: dict[str, Step] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, step: Step) -> None:
        self.steps[step.name] = self.steps.get(step.name, Step(step.name)) + step

    @property
    def bytes(self) -> int:
        return sum(step.bytes for step in self.steps.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "dry_run": self.dry_run,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "steps": {step.name: {"count": step.count, "bytes": step.bytes} for step in self.steps.values()},
        }


class Garbage:
    """Collects garbage by `policy`; see `storage.garbage.exclusive` for how only one runs at a time."""

    def __init__(self, blobs: BlobStore, changes: Changes, policy: GarbagePolicy) -> None:
        self._blobs = blobs
        self._database = blobs.database
        self._changes = changes
        self._policy = policy

    async def collect(self) -> CollectionReport:
        """Delete all garbage. Raises StorageUnavailable, having deleted part of it."""
        report, begun = CollectionReport(), time.monotonic()
        # a process may have died between a commit and its mark, and what it cached is about to lose its bytes
        self._changes.mark_all()
        await mend(self._database, time.time())
        rules = await rules_now(self._blobs, self._policy)
        last_deleted = 0.0
        for kind in KINDS:
            step = await (self._sweep_tags(rules) if kind is TAGS else self._sweep(kind, rules))
            report.add(step)
            if kind in (UPLOADS, BLOBS) and step.count:
                last_deleted = time.time()
        # a client that found a blob before its row was deleted opens the bytes within this time
        await asyncio.sleep(max(last_deleted + self._policy.linger - time.time(), 0))
        report.add(await self.delete_objects())
        report.seconds = time.monotonic() - begun
        return report

    async def _sweep(self, kind: GarbageKind, rules: Rules) -> Step:
        """Delete the garbage of one kind."""
        total = Step(kind.name)
        while True:
            found = await self._sweep_once(kind, rules)
            if kind is MANIFESTS and not found.count:
                found = await self._sweep_rings(rules)
            total += found
            # deleting a manifest may have removed the last that led to another
            if kind is not MANIFESTS or not found.count:
                return total

    async def _sweep_rings(self, rules: Rules) -> Step:
        step = Step(MANIFESTS.name)
        async with self._database.reading() as connection:
            repositories = await repositories_with_rings(connection, rules)
        for repository in repositories:
            async with self._database.reading() as connection:
                found = await find_rings(connection, rules, repository)
            if found:
                step += await to_end(self._delete_rings(repository, rules))
        return step

    async def _delete_rings(self, repository: str, rules: Rules) -> Step:
        table, begun = tables.repository_manifest, time.monotonic()
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            found = await find_rings(connection, rules, repository)
            for batch in batches(found):
                these = (table.c.repository == repository) & table.c.digest.in_(batch)
                await connection.execute(delete(table).where(these))
            await announce(connection, repository)
        self._changes.mark(repository)
        await _give_way(begun)
        return Step(MANIFESTS.name, len(found))

    async def _sweep_once(self, kind: GarbageKind, rules: Rules) -> Step:
        key, step = list(kind.table.primary_key), Step(kind.name)
        garbage = rules.garbage(kind)
        last: Sequence[str] | None = None
        while True:
            query = select(*key).where(garbage).order_by(*key).limit(BATCH)
            if last is not None:
                query = query.where(tuple_(*key) > tuple_(*last))
            async with self._database.reading() as connection:
                rows = [tuple(row) for row in await connection.execute(query)]
            if not rows:
                return step
            last = rows[-1]
            step += await to_end(self._delete(kind, rows, garbage))

    async def _delete(self, kind: GarbageKind, keys: Sequence[Sequence[str]], garbage: ColumnElement[bool]) -> Step:
        """Delete those of the rows that are still garbage."""
        table, begun = kind.table, time.monotonic()
        key = list(table.primary_key)
        async with self._database.writing() as connection:
            for repository in sorted({each[0] for each in keys} if kind.of_manifests else ()):
                await lock_manifests(self._database, connection, repository)
            free = select(*key, kind.size).where(_among(key, keys), garbage).order_by(*key)
            found = await connection.execute(free.with_for_update(skip_locked=True))
            sizes = {tuple(row[:-1]): int(row[-1]) for row in found}
            if not sizes:
                return Step(kind.name)
            if kind is UPLOADS:
                await _doom_parts(connection, [each[0] for each in sizes], self._expires)
            columns = [*key, table.c.key] if kind is BLOBS else key
            statement = delete(table).where(_among(key, list(sizes)), garbage).returning(*columns)
            gone = (await connection.execute(statement)).all()
            if kind is BLOBS:
                await make_pending(connection, [row.key for row in gone if row.key], self._expires)
            changed = {row.repository for row in gone} if "repository" in table.primary_key else set()
            for repository in changed:
                await announce(connection, repository)
        for repository in changed:
            self._changes.mark(repository)
        await _give_way(begun)
        return Step(kind.name, len(gone), sum(sizes[tuple(row[: len(key)])] for row in gone))

    @property
    def _expires(self) -> float:
        return time.time() + self._policy.linger

    # tags

    async def _sweep_tags(self, rules: Rules) -> Step:
        step = Step(TAGS.name)
        for repository, rule in await list_ruled_repositories(self._blobs, self._policy):
            garbage = is_given_up(rule, repository, rules.now)
            async with self._database.reading() as connection:
                names = await find_tags_given_up(connection, self._policy, rule, repository, rules.now)
            for start in range(0, len(names), BATCH):
                step += await to_end(self._delete_tags(repository, names[start : start + BATCH], garbage))
        return step

    async def _delete_tags(self, repository: str, names: Sequence[str], garbage: ColumnElement[bool]) -> Step:
        table, begun = tables.tag, time.monotonic()
        async with self._database.writing() as connection:
            await lock_manifests(self._database, connection, repository)
            statement = delete(table).where(table.c.name.in_(names), garbage).returning(table.c.digest)
            meant = list((await connection.execute(statement)).scalars())
            await note_tags(connection, repository, meant)
            await announce(connection, repository)
        self._changes.mark(repository)
        await _give_way(begun)
        return Step(TAGS.name, len(meant))

    # bytes

    async def has_due_objects(self) -> bool:
        """Whether there are bytes that nobody needs and nobody still reads."""
        async with self._database.reading() as connection:
            due = select(exists().where(is_due(time.time())))
            return bool((await connection.execute(due)).scalar())

    async def delete_objects(self) -> Step:
        """Delete the bytes of deleted rows, and of writes that never ended."""
        step = Step(OBJECTS)
        while keys := await self._doom():
            await asyncio.to_thread(self._blobs.objects.delete, keys)
            begun, table = time.monotonic(), tables.pending
            async with self._database.writing() as connection:
                await connection.execute(delete(table).where(table.c.key.in_(_free(table.c.key.in_(keys)))))
            await _give_way(begun)
            step += Step(OBJECTS, len(keys))
        return step

    async def _doom(self) -> Sequence[str]:
        """Take the keys of due objects, so that nobody can claim these: a late writer must not find its bytes gone."""
        table = tables.pending
        due = _free(is_due(time.time())).limit(BATCH)
        statement = update(table).where(table.c.key.in_(due)).values(expires=DOOMED).returning(table.c.key)
        async with self._database.writing() as connection:
            return list((await connection.execute(statement)).scalars())


def is_due(now: float) -> ColumnElement[bool]:
    """Whether nobody may claim a pending object any more."""
    expires = tables.pending.c.expires
    return or_(expires <= now, is_before(expires, now, now, ahead=WRITE_SECONDS))


def _free(where: ColumnElement[bool]) -> Any:
    """Pending objects that no other transaction is claiming or releasing."""
    key = tables.pending.c.key
    return select(key).where(where).order_by(key).with_for_update(skip_locked=True)


async def rules_now(blobs: BlobStore, policy: GarbagePolicy) -> Rules:
    """The rules as of now."""
    now = time.time()
    return Rules(policy, now, await oldest_build(blobs.database), await bounds_now(blobs.database, policy))


async def bounds_now(database: Database, policy: GarbagePolicy) -> Bounds:
    """The bounds beyond which the policy has too many rows. Looked up once: it costs a walk through the rows."""
    lock = tables.lock
    order = (lock.c.pinned.desc(), lock_needed().desc(), lock.c.key.desc())
    total = func.sum(cast(lock.c.size, BigInteger)).over(order_by=order)
    ranked = select(lock.c.pinned, lock_needed().label("needed"), lock.c.key, total.label("total")).subquery()
    over = select(ranked.c.pinned, ranked.c.needed, ranked.c.key).where(
        ranked.c.total > literal(policy.locks_limit, BigInteger)
    )
    first = over.order_by(ranked.c.pinned.desc(), ranked.c.needed.desc(), ranked.c.key.desc()).limit(1)
    async with database.reading() as connection:
        row = (await connection.execute(first)).first() if policy.locks_limit else None
        return Bounds(
            (bool(row.pinned), row.needed, row.key) if row else None,
            await _after(connection, tables.resolution.c.solved, policy.most_resolutions),
            await _after(connection, tables.build.c.ended, policy.most_builds),
        )


async def _after(connection: AsyncConnection, column: Column[Any], most: int) -> float | None:
    """The value of the first row after the `most` greatest."""
    query = select(column).where(column.is_not(None)).order_by(column.desc()).offset(most).limit(1)
    found: float | None = (await connection.execute(query)).scalar() if most else None
    return found


async def oldest_build(database: Database) -> float | None:
    """When the oldest running build began (UNIX seconds); None if none runs."""
    table = tables.build
    living = table.c.ended.is_(None) & (table.c.heartbeat > database_time(database) - BUILD_SILENT_SECONDS)
    async with database.reading() as connection:
        begun: float | None = (await connection.execute(select(func.min(table.c.created)).where(living))).scalar()
    return begun


async def list_ruled_repositories(blobs: BlobStore, policy: GarbagePolicy) -> list[tuple[str, Retention]]:
    """The repositories with a retention rule; never that of the on-demand images."""
    if not policy.limits.retention:
        return []
    table = tables.repository
    async with blobs.database.reading() as connection:
        names = list((await connection.execute(select(table.c.name).order_by(table.c.name))).scalars())
    found = [(name, rule_of(policy.limits, name)) for name in names if name != policy.root]
    return [(name, rule) for name, rule in found if rule is not None]


async def find_tags_given_up(
    connection: AsyncConnection, policy: GarbagePolicy, rule: Retention, repository: str, now: float
) -> Sequence[str]:
    table = tables.tag
    query = select(table.c.name).where(is_given_up(rule, repository, now)).order_by(table.c.name)
    names = (await connection.execute(query)).scalars()
    return find_given_up(await find_protection(policy.limits, connection, repository), rule, list(names))


async def _doom_parts(connection: AsyncConnection, uploads: Collection[str], expires: float) -> None:
    table = tables.upload_part
    query = select(table.c.key).where(table.c.upload.in_(uploads))
    await make_pending(connection, list((await connection.execute(query)).scalars()), expires)


def _among(key: Sequence[Column[Any]], values: Sequence[Sequence[str]]) -> ColumnElement[bool]:
    if len(key) == 1:
        return key[0].in_([value[0] for value in values])
    return tuple_(*key).in_([tuple(value) for value in values])


async def _give_way(begun: float) -> None:
    """Sleep on SQLite as long as the transaction took: only one writes at a time, and others retry now and then."""
    await asyncio.sleep(time.monotonic() - begun)
