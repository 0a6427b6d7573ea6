"""A new database, made by several processes at once; and what errors of a database show."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from storage.database import engine
from storage.database.engine import Database, migrate, sqlite_url
from storage.errors import ServerStopping, StorageError, StorageUnavailable

AT_ONCE = 4
NUMBERS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) FROM n")
"""Takes a moment."""


def test_several_may_migrate_a_new_database_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for number in range(10):
            url = sqlite_url(tmp_path / f"{number}.sqlite")
            list(threads.map(migrate, [url] * AT_ONCE))
    with contextlib.closing(sqlite3.connect(tmp_path / "0.sqlite")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM build").fetchone() == (0,)


async def test_no_error_shows_what_was_stored(database_url: str) -> None:
    database = Database.open(database_url)
    with pytest.raises((StorageError, DBAPIError)) as raised:
        async with database.writing() as connection:
            await connection.execute(text("INSERT INTO no_such_table VALUES (:key)"), {"key": "a secret key"})
    await database.close()
    shown = "".join(traceback.format_exception(raised.value))
    assert "no_such_table" in shown
    assert "parameters hidden" in shown


def test_no_error_of_a_migration_shows_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: Connection) -> None:
        connection.execute(text("INSERT INTO no_such_table VALUES (:key)"), {"key": "a secret key"})

    monkeypatch.setattr(engine, "_upgrade", fail)
    with pytest.raises(StorageUnavailable) as raised:
        migrate(sqlite_url(tmp_path / "new.sqlite"))
    assert "no_such_table" in str(raised.value.__cause__)
    assert "parameters hidden" in str(raised.value.__cause__)


async def test_names_with_one_checksum_have_locks_of_their_own(postgres_url: str) -> None:
    assert crc32(b"plumless") == crc32(b"buckeroo")
    one, two = Database.open(postgres_url), Database.open(postgres_url)
    async with asyncio.timeout(60), one.writing() as first, two.writing() as second:
        await one.lock(first, "plumless")
        await two.lock(second, "buckeroo")
        held = text("SELECT count(DISTINCT (classid, objid)) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        # other tests may hold some on the same server, but in other databases
        own = text(f"{held} AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
        assert (await first.execute(own)).scalar() == 2
    await one.close()
    await two.close()


def count_open(path: Path) -> int:
    """How many descriptors of this process are of the file."""
    targets = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
    return targets.count(str(path))


async def use(database: Database, begun: asyncio.Event) -> None:
    async with database.writing() as connection:
        begun.set()
        await connection.execute(NUMBERS)


async def test_no_connection_is_left_of_a_task_that_was_cancelled(migrated_sqlite: str, tmp_path: Path) -> None:
    """The task's statement runs to its end, though the database is closed meanwhile by somebody who does not wait."""
    database, begun = Database.open(migrated_sqlite), asyncio.Event()
    task = asyncio.create_task(use(database, begun))
    await begun.wait()
    await asyncio.sleep(0)
    task.cancel()
    await database.close()
    assert count_open(tmp_path / "condery.sqlite") == 0
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ServerStopping):
        await database.ping()


@pytest.mark.parametrize("seconds", [0, 0.001, 0.002, 0.005])
async def test_no_connection_is_left_of_closing_that_was_cancelled(
    migrated_sqlite: str, tmp_path: Path, seconds: float
) -> None:
    database = Database.open(migrated_sqlite)
    await asyncio.gather(*(database.ping() for _ in range(10)))
    assert count_open(tmp_path / "condery.sqlite") > 1
    task = asyncio.create_task(database.close())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not seconds:
        # it had not begun
        await database.close()
    assert count_open(tmp_path / "condery.sqlite") == 0


async def test_a_connection_that_comes_back_late_is_closed(
    migrated_sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CLOSE_SECONDS", 0.01)
    database, begun, may_end = Database.open(migrated_sqlite), asyncio.Event(), asyncio.Event()

    async def keep() -> None:
        async with database.reading():
            begun.set()
            await may_end.wait()

    task = asyncio.create_task(keep())
    await begun.wait()
    await database.close()
    assert count_open(tmp_path / "condery.sqlite") == 1
    may_end.set()
    await task
    assert count_open(tmp_path / "condery.sqlite") == 0
