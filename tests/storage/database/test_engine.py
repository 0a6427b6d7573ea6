"""A new database, made by several processes at once."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from storage.database.engine import migrate, sqlite_url

AT_ONCE = 4


def test_several_may_migrate_a_new_database_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for number in range(10):
            url = sqlite_url(tmp_path / f"{number}.sqlite")
            list(threads.map(migrate, [url] * AT_ONCE))
    with closing(sqlite3.connect(tmp_path / "0.sqlite")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM build").fetchone() == (0,)
