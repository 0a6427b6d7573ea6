"""Times in rows: those that the database's clock writes, and those that a clock wrote while it was ahead.

One machine writes a sign of life and another reads it, so those times come from the database (`database_time`), and
wrong clocks of the machines do not matter. With SQLite the database's clock is the machine's own.

Other times come from a machine's clock, which may have been ahead and have been corrected since. A row is kept for some
time after a time that it holds. If that lies in the future, the row would be kept for as long as the clock was ahead,
perhaps for years. Where dropping the row only costs a client some patience, `is_before` counts such a time as long ago.
Where the row would be lost for good, each collection resets such a time to its own (`mend`): as far as anybody knows
the row was just used, and its time begins again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Float, cast, exists, extract, func, or_, select, tuple_, update

from storage.database import environment_tables, tables
from storage.database.engine import Database
from storage.database.log_tables import environment_log

TOLERANCE = 3600.0
"""How far the clocks of machines that share a database may differ before a time counts as wrong."""

LONG_AGO = 1.0

BATCH = 1000
"""Rows mended in one transaction."""

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
    environment_tables.specification.c.created,
    environment_tables.watched_file.c.changed,
    environment_tables.watched_file.c.gone,
    environment_tables.environment.c.created,
    environment_tables.environment.c.deleted,
    environment_tables.environment.c.resolved,
    environment_tables.environment_alarm.c.since,
    environment_tables.environment_directory.c.since,
    environment_tables.environment_build.c.scheduled,
    environment_tables.environment_build.c.started,
    environment_tables.environment_build.c.ended,
    environment_tables.environment_build.c.pulled,
    environment_tables.environment_build.c.deleted,
)
"""Times that are reset to now if they lie in the future."""

RIGHTLY_AHEAD = {tables.event.c.due: 4 * 3600.0}
"""Seconds by which such a time may lie in the future with no clock wrong; no other time ever does."""

EXPIRED: tuple[Column[Any], ...] = (tables.resolution.c.solved,)
"""Times that are set to long ago: the name is solved again, and the row stays for what relies on it."""

OVER: tuple[Column[Any], ...] = (
    tables.build.c.ended,
    tables.build.c.waited,
    tables.upload.c.touched,
    tables.pending.c.expires,
    tables.pending.c.held_until,
    tables.lease.c.until,
    environment_log.c.written,
)
"""Times that count as long ago where they are read."""


_UNIX_EPOCH = 2440587.5
"""As a Julian date."""


def database_time(database: Database) -> ColumnElement[float]:
    """The current time (UNIX seconds) by the database's clock, as an expression for a statement."""
    if database.dialect == "postgresql":
        # not now(), which is when the transaction began: it may have waited for a lock since then
        return cast(extract("epoch", func.clock_timestamp()), Float)
    return cast((func.julianday("now") - _UNIX_EPOCH) * 86400.0, Float)


def is_before(column: ColumnElement[float], before: float, now: float, ahead: float = 0.0) -> ColumnElement[bool]:
    """Whether a time is earlier than `before`, or later than `now` by more than the `ahead` seconds that it may be."""
    return or_(column < before, column > now + ahead + TOLERANCE)


def is_ahead(seconds: float, now: float) -> bool:
    """Whether no clock that is right at `now` can have written a time (UNIX seconds)."""
    return seconds > now + TOLERANCE


async def mend(database: Database, now: float) -> None:
    """Set times that lie in the future to `now`, or to long ago."""
    for column in RESET:
        await _mend(database, column, now, now)
    for column in EXPIRED:
        await _mend(database, column, now, LONG_AGO)


async def _mend(database: Database, column: Column[Any], now: float, value: float) -> None:
    table = column.table
    key = list(table.primary_key)
    wrong = column > now + TOLERANCE + RIGHTLY_AHEAD.get(column, 0.0)
    some = select(*key).where(wrong).order_by(*key).limit(BATCH).with_for_update()
    # usually there are none, and then nothing has to wait for a writing transaction
    while await _is_there(database, wrong):
        async with database.writing() as connection:
            await connection.execute(update(table).where(tuple_(*key).in_(some)).values({column.name: value}))


async def _is_there(database: Database, where: ColumnElement[bool]) -> bool:
    async with database.reading() as connection:
        return bool((await connection.execute(select(exists().where(where)))).scalar())


def mend_file(path: Path, status: os.stat_result, now: float | None = None) -> float:
    """When a file was last used, by its times; times in the future are set to `now`."""
    now = time.time() if now is None else now
    used = max(status.st_mtime, status.st_atime)
    if not is_ahead(used, now):
        return used
    modified = min(status.st_mtime_ns, int(now * 1e9))
    os.utime(path, ns=(int(now * 1e9), modified))
    return now
