"""Hints to other processes that rows may have changed, so that waiting for a change does not mean constant polling.

PostgreSQL sends them (NOTIFY). SQLite sends nothing, but a connection can cheaply tell whether another one changed the
file.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

import aiosqlite
import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.cancellation import to_end
from storage.database.engine import Database
from storage.events.listening import RETRY_SECONDS, listen

TICK_SECONDS = 0.05

log = structlog.get_logger(__name__)


async def hint(connection: AsyncConnection, channel: str) -> None:
    """Make those who hear `channel` look once the transaction is committed."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_notify(channel, "")))


async def hear(database: Database, channel: str, tell: Callable[[], None]) -> NoReturn:
    """Call `tell` after each hint by any process until the task is cancelled. Some calls are for nothing."""
    url = database.engine.url
    if database.dialect == "postgresql":
        await listen(url, channel, lambda _: tell(), lambda _: tell())
    assert url.database is not None
    await _watch_sqlite(url.database, tell)


async def _watch_sqlite(path: str, tell: Callable[[], None]) -> NoReturn:
    """Read the number that stands for the file's state (https://sqlite.org/pragma.html#pragma_data_version).

    SQLite reads it from memory that processes share, without a lock that a writer would wait for.
    """
    while True:
        try:
            async with _connected(path) as connection:
                before = None
                while True:
                    version = await connection.execute_fetchall("PRAGMA data_version")
                    if version != before:
                        tell()
                    before = version
                    await asyncio.sleep(TICK_SECONDS)
        except sqlite3.Error as error:
            log.warning("cannot see other processes' changes", reason=str(error))
        tell()
        await asyncio.sleep(RETRY_SECONDS)


@contextlib.asynccontextmanager
async def _connected(path: str) -> AsyncIterator[aiosqlite.Connection]:
    """Connect, and close the connection even if the task is cancelled while it is being opened."""
    connection = aiosqlite.connect(path, isolation_level=None)

    async def open_it() -> None:
        await connection

    try:
        await to_end(open_it())
        yield connection
    finally:
        await to_end(connection.close())
