"""The database's engine: SQLite beside the blobs, or PostgreSQL; the same tables and migrations on both."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_SECONDS = 30
NEWEST = "0001"
"""The last revision of storage/migrations/versions."""


def sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def open_engine(url: str) -> AsyncEngine:
    """An engine for `url`, to which `migrate` has been."""
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_SECONDS * 1000}", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def migrate(url: str) -> None:
    """Bring the database at `url` to the newest revision. Blocks; may be run by several processes at once."""
    engine = create_engine(url.replace("+aiosqlite", ""))
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
                _write_ahead(connection)
            if _revision(connection) == NEWEST:
                return
            connection.rollback()
            if engine.dialect.name == "sqlite":
                # SQLite's DDL is outside the driver's implicit transactions: take the write lock before looking
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            _upgrade(connection)
            connection.commit()
    finally:
        engine.dispose()


def _write_ahead(connection: Connection) -> None:
    """Set SQLite to write-ahead logging, so that readers and a writer do not wait for each other; the file keeps it.

    Of several connections that set it at the same time SQLite refuses all but one at once, whatever the busy timeout.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _revision(connection: Connection) -> str | None:
    """The revision the database is at; None for a new one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    # imported only where there is something to do: it takes longer than a start should
    from alembic import command

    command.upgrade(migrations(connection), NEWEST)


def migrations(connection: Connection | None = None) -> Config:
    """Alembic's configuration, for a program that is given `connection`."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
