"""A new database, made by several processes at once; and what errors of a database show."""

from __future__ import annotations

import asyncio
import contextlib
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
from storage.errors import StorageError, StorageUnavailable

AT_ONCE = 4


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
