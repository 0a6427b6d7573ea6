"""SQLAlchemy's engine for SQLite, whose connections have a thread each.

A statement runs in its connection's thread, whether or not somebody waits. Nor does anybody but its user close a
connection: one that is left open keeps its thread and its file, and perhaps the write lock of all processes.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from storage.cancellation import to_end

WRITES = "condery_writes"
"""The execution option of a connection whose transaction writes."""
BUSY_SECONDS = 30
POOL_SIZE = 15


def open_sqlite_engine(url: str) -> AsyncEngine:
    # no overflow: such connections are closed after each use, and opening one takes longer than most statements
    created = create_async_engine(url, hide_parameters=True, pool_size=POOL_SIZE, max_overflow=0)
    engine: AsyncEngine = _SteadyEngine(created.sync_engine)
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


class _SteadyConnection(AsyncConnection):
    """A connection whose statements run to their end.

    If the caller were cancelled meanwhile, SQLAlchemy would give the connection up with its transaction, which holds
    the write lock of all processes for a long time.
    """

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        return await to_end(super().execute(*args, **kwargs))


class _SteadyEngine(AsyncEngine):
    _connection_cls = _SteadyConnection


def _prepare(connection: Any, _record: Any) -> None:
    # `_begin` begins transactions: the driver's own lock only at the first write, which may then be refused
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_SECONDS * 1000}", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Begin in one call of the connection's thread; a statement of SQLAlchemy takes three, of eight in a short read."""
    writes = connection.get_execution_options().get(WRITES, False)
    statement = "BEGIN IMMEDIATE" if writes else "BEGIN"
    adapted: Any = connection.connection.dbapi_connection
    try:
        adapted.run_async(lambda driver: driver.execute_fetchall(statement))
    except (sqlite3.OperationalError, ValueError) as error:
        raise OperationalError(statement, None, error) from error
