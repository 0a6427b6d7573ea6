"""Times in rows: those that the database's clock writes, and those that a clock wrote which was ahead.

Who is alive is told by times that one machine writes and another reads. They are the database's (`database_time`), for
which it does not matter what the clocks of those machines say. With SQLite the database's clock is the machine's own.

A clock may have been ahead when it wrote a time, and have been mended since.

A row is kept for some time after one that it has. If that lies in the future, it would be kept for as long as the clock
was ahead, which may be years. So what only costs a client its patience counts as over at once, by `is_before`. Of what
would be lost for good, every collection sets such a time to that of its own (`mend`): it was just used, as far as
anybody knows, and its time begins anew.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Float, cast, exists, extract, func, or_, select, tuple_, update

from storage.database import tables
from storage.database.engine import Database

TOLERANCE = 3600.0
"""By which the clocks of machines that share a database may differ, and nothing be taken for wrong."""

LONG_AGO = 1.0

BATCH = 1000
"""Rows that are mended in one transaction."""

RESET: tuple[Column[Any], ...] = (
    tables.manifest.c.created,
    tables.lock.c.created,
    tables.lock.c.used,
    tables.image.c.created,
    tables.image.c.used,
    tables.artifact.c.created,
    tables.artifact.c.used,
    tables.build.c.heartbeat,
    tables.build.c.created,
    tables.base_pin.c.created,
    tables.blob.c.created,
    tables.blob.c.used,
    tables.repository.c.created,
    tables.link.c.created,
    tables.link.c.released,
    tables.repository_manifest.c.pushed,
    tables.repository_manifest.c.untagged,
    tables.tag.c.updated,
    tables.mirrored_manifest.c.pulled,
    tables.upload.c.created,
    tables.event.c.created,
    tables.event.c.due,
)
"""Times that begin anew."""

RIGHTLY_AHEAD = {tables.event.c.due: 4 * 3600.0}
"""Seconds by which such a time may be in the future though no clock was wrong; the others never are."""

EXPIRED: tuple[Column[Any], ...] = (tables.resolution.c.solved,)
"""Those that are set to long ago: what a name means is solved again, and the row stays for those that rely on it."""

OVER: tuple[Column[Any], ...] = (
    tables.build.c.ended,
    tables.upload.c.touched,
    tables.pending.c.expires,
    tables.pending.c.held_until,
    tables.lease.c.until,
)
"""Those that count as over where they are read."""


_UNIX_EPOCH = 2440587.5
"""As a Julian day."""


def database_time(database: Database) -> ColumnElement[float]:
    """Now (UNIX seconds) by the clock of the database, in a statement for it."""
    if database.dialect == "postgresql":
        # not now(), which is when the transaction began: it may have waited for a lock since
        return cast(extract("epoch", func.clock_timestamp()), Float)
    return cast((func.julianday("now") - _UNIX_EPOCH) * 86400.0, Float)


def is_before(column: ColumnElement[float], before: float, now: float, ahead: float = 0.0) -> ColumnElement[bool]:
    """Whether a time was before `before`, or is further in the future than the `ahead` seconds that it rightly may."""
    return or_(column < before, column > now + ahead + TOLERANCE)


def is_ahead(seconds: float, now: float) -> bool:
    """Whether a time (UNIX seconds) is one that no clock can have written which is right at `now`."""
    return seconds > now + TOLERANCE


async def mend(database: Database, now: float) -> None:
    """Set the times that are in the future to `now`, or to long ago."""
    for column in RESET:
        await _mend(database, column, now, now)
    for column in EXPIRED:
        await _mend(database, column, now, LONG_AGO)


async def _mend(database: Database, column: Column[Any], now: float, value: float) -> None:
    table = column.table
    key = list(table.primary_key)
    wrong = column > now + TOLERANCE + RIGHTLY_AHEAD.get(column, 0.0)
    some = select(*key).where(wrong).order_by(*key).limit(BATCH).with_for_update()
    # as a rule there are none, and then nobody has to wait for a transaction that writes
    while await _is_there(database, wrong):
        async with database.writing() as connection:
            await connection.execute(update(table).where(tuple_(*key).in_(some)).values({column.name: value}))


async def _is_there(database: Database, where: ColumnElement[bool]) -> bool:
    async with database.reading() as connection:
        return bool((await connection.execute(select(exists().where(where)))).scalar())


def mend_file(path: Path, status: os.stat_result, now: float | None = None) -> float:
    """When a file was last used, by its times; those that are in the future are set to `now`."""
    now = time.time() if now is None else now
    used = max(status.st_mtime, status.st_atime)
    if not is_ahead(used, now):
        return used
    modified = min(status.st_mtime_ns, int(now * 1e9))
    os.utime(path, ns=(int(now * 1e9), modified))
    return now
