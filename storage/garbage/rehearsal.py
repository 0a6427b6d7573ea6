"""A dry run: what a garbage collection would delete, found without deleting anything.

It takes the steps of `storage.garbage.collection` with the same rules. Instead of deleting, each step writes its rows
into a temporary table of this session, and the rules of later steps treat those rows as deleted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, MetaData, String, Table, cast, exists, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateTable

from storage.blobs.store import BlobStore
from storage.database import tables
from storage.garbage.collection import (
    OBJECTS,
    CollectionReport,
    Step,
    find_tags_given_up,
    is_due,
    list_ruled_repositories,
    rules_now,
)
from storage.garbage.rings import find_rings, repositories_with_rings
from storage.garbage.rules import KINDS, MANIFESTS, TAGS, GarbageKind, GarbagePolicy, Rules

_TEXT = String(255).with_variant(String(255, collation="C"), "postgresql")

_gone = Table(
    "gone",
    MetaData(),
    Column("kind", _TEXT, primary_key=True),
    Column("first", _TEXT, primary_key=True),
    Column("second", _TEXT, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    prefixes=["TEMPORARY"],
)


class _TableOfGone:
    """The session's temporary table as `storage.garbage.rules.Gone`. Keys have one or two columns."""

    def has(self, table: Table, key: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
        first, second = _pair(key)
        return exists().where(_gone.c.kind == table.name, _gone.c.first == first, _gone.c.second == second)


async def rehearse(blobs: BlobStore, policy: GarbagePolicy) -> CollectionReport:
    """The report of a collection that does not take place."""
    report, begun = CollectionReport(dry_run=True), time.monotonic()
    now = await rules_now(blobs, policy)
    rules = replace(now, gone=_TableOfGone())
    async with blobs.database.reading() as connection:
        await connection.execute(CreateTable(_gone))
        try:
            for kind in KINDS:
                if kind is TAGS:
                    report.add(await _tags(connection, blobs, policy, rules))
                else:
                    report.add(await _mark(connection, kind, rules))
            report.add(await _objects(connection, rules.now))
        finally:
            await connection.rollback()
    report.seconds = time.monotonic() - begun
    return report


async def _mark(connection: AsyncConnection, kind: GarbageKind, rules: Rules) -> Step:
    key = list(kind.table.primary_key)
    garbage = select(literal(kind.table.name), *_pair(key), kind.size).where(rules.garbage(kind))
    total = Step(kind.name)
    while True:
        before = await _count(connection, kind)
        await connection.execute(_gone.insert().from_select(list(_gone.c), garbage))
        after = await _count(connection, kind)
        found = Step(kind.name, after.count - before.count, after.bytes - before.bytes)
        if kind is MANIFESTS and not found.count:
            found = await _mark_rings(connection, rules)
        total += found
        if kind is not MANIFESTS or not found.count:
            return total


async def _mark_rings(connection: AsyncConnection, rules: Rules) -> Step:
    step = Step(MANIFESTS.name)
    for repository in await repositories_with_rings(connection, rules):
        found = await find_rings(connection, rules, repository)
        rows = [{"kind": MANIFESTS.table.name, "first": repository, "second": each, "bytes": 0} for each in found]
        if rows:
            await connection.execute(_gone.insert(), rows)
        step += Step(MANIFESTS.name, len(rows))
    return step


async def _count(connection: AsyncConnection, kind: GarbageKind) -> Step:
    total = func.coalesce(func.sum(_gone.c.bytes), 0)
    row = (await connection.execute(select(func.count(), total).where(_gone.c.kind == kind.table.name))).one()
    return Step(kind.name, row[0], int(row[1]))


async def _tags(connection: AsyncConnection, blobs: BlobStore, policy: GarbagePolicy, rules: Rules) -> Step:
    count = 0
    for repository, rule in await list_ruled_repositories(blobs, policy):
        count += len(await find_tags_given_up(connection, policy, rule, repository, rules.now))
    return Step(TAGS.name, count)


async def _objects(connection: AsyncConnection, now: float) -> Step:
    """Count the objects that are due, with those of deleted blobs and of parts of uploads."""
    blob, part, pending, has = tables.blob, tables.upload_part, tables.pending, _TableOfGone().has
    queries = (
        select(func.count()).select_from(pending).where(is_due(now)),
        select(func.count()).select_from(blob).where(blob.c.key.is_not(None), has(blob, [blob.c.digest])),
        select(func.count()).select_from(part).where(has(tables.upload, [part.c.upload])),
    )
    return Step(OBJECTS, sum([int((await connection.execute(query)).scalar_one()) for query in queries]))


def _pair(key: Sequence[ColumnElement[Any]]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    # PostgreSQL compares no number with a text
    first, second, *_ = (*(each if isinstance(each.type, String) else cast(each, _TEXT) for each in key), literal(""))
    return first, second
