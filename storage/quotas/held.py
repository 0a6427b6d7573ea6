"""How many bytes are held within bounds, of which each blob and each manifest counts once."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, cast, func, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import tables
from storage.database.engine import Database
from storage.database.sql_clock import is_before
from storage.quotas.bounds import Bound


async def lock_bounds(database: Database, connection: AsyncConnection, bounds: Iterable[Bound]) -> None:
    """Hold off all others who change what is held, until the transaction ends. The order is that of `find_bounds`."""
    for bound in bounds:
        await database.lock(connection, bound.lock)


async def check_bounds(connection: AsyncConnection, bounds: Sequence[Bound], earlier: Sequence[int] = ()) -> None:
    """Raises QuotaExceeded where more is held than may be, and more than `earlier`."""
    for index, bound in enumerate(bounds):
        held = await sum_held(connection, bound)
        before = earlier[index] if earlier else None
        if held > bound.limit and (before is None or held > before):
            raise bound.refuse(held if before is None else before, held)


async def sum_held(
    connection: AsyncConnection,
    bound: Bound,
    without_blob: str = "",
    without_manifest: str = "",
    without: Collection[str] = (),
) -> int:
    """The bytes that are held within a bound, without those of the things named."""
    link, row, file = tables.link, tables.repository_manifest, tables.artifact
    blobs: Any = select(link.c.digest).where(bound.holds(link.c.repository), link.c.digest != without_blob)
    if bound.root:
        blobs = union(blobs, select(file.c.digest).where(file.c.digest != without_blob))
    manifests = and_(bound.holds(row.c.repository), row.c.digest != without_manifest)
    return await sum_sizes(connection, blobs, manifests) + await coming(connection, bound, without)


async def sum_sizes(connection: AsyncConnection, blobs: Any, manifests: ColumnElement[bool]) -> int:
    """The total size of these blobs, by digest, and manifests, each once."""
    blob, row = tables.blob, tables.repository_manifest
    each = select(row.c.digest, row.c.size).where(manifests).distinct().subquery()
    queries = (select(sum_column(blob.c.size)).where(blob.c.digest.in_(blobs)), select(sum_column(each.c.size)))
    return sum([int((await connection.execute(query)).scalar_one()) for query in queries])


async def coming(connection: AsyncConnection, bound: Bound, without: Collection[str] = ()) -> int:
    """Bytes of upload sessions and bytes still arriving, but not of the sessions and pending objects named."""
    upload, pending, now = tables.upload, tables.pending, time.time()
    sessions = select(sum_column(upload.c.size)).where(bound.holds(upload.c.repository), upload.c.id.not_in(without))
    coming = select(sum_column(pending.c.size)).where(
        bound.holds(pending.c.repository),
        ~is_before(pending.c.held_until, now, now),
        pending.c.key.not_in(without),
    )
    return sum([int((await connection.execute(query)).scalar_one()) for query in (sessions, coming)])


def sum_column(column: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(cast(column, BigInteger)), 0)
