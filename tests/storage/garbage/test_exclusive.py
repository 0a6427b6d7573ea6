"""One collection at a time, whoever the other is, and none for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from storage.database.engine import Database
from storage.errors import GarbageCollectionRunning
from storage.garbage.exclusive import between_collections, last_collection, only_here, only_one
from storage.layout import DataDirectory

HOLD = (
    "import os, sys; from pathlib import Path; from storage.garbage.exclusive import only_here\n"
    "with only_here(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)
POSTGRES = pytest.mark.parametrize(
    "database_url", [pytest.param("postgresql", marks=pytest.mark.services)], indirect=True
)


def test_of_a_directory(tmp_path: Path) -> None:
    assert last_collection(tmp_path) == 0
    with only_here(tmp_path):
        with pytest.raises(GarbageCollectionRunning, match=f"process {os.getpid()} on .* since 20"):
            with only_here(tmp_path):
                pass
    assert last_collection(tmp_path) > 0
    with only_here(tmp_path):
        pass


def test_a_directory_between_its_collections(tmp_path: Path) -> None:
    """A backup, say: it names itself, not who held the lock before it, and is no collection."""
    DataDirectory(tmp_path).collecting.write_text("process 1 on a machine that died")
    os.utime(DataDirectory(tmp_path).collecting, (1_000_000_000, 1_000_000_000))
    with between_collections(tmp_path):
        assert last_collection(tmp_path) == 1_000_000_000
        with pytest.raises(GarbageCollectionRunning, match=f"process {os.getpid()} on .* since 20"):
            with only_here(tmp_path):
                pass
    assert DataDirectory(tmp_path).collecting.read_bytes() == b""
    assert last_collection(tmp_path) == 1_000_000_000


def test_a_directory_before_its_first_collection(tmp_path: Path) -> None:
    with between_collections(tmp_path):
        assert last_collection(tmp_path) == 0
    assert last_collection(tmp_path) == 0


def test_of_a_directory_that_a_dead_process_had(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(GarbageCollectionRunning, match=f"process {other.pid}"):
            with only_here(tmp_path):
                pass
        other.kill()
        other.wait()
        with only_here(tmp_path):
            pass


@POSTGRES
async def test_of_a_database(database_url: str) -> None:
    mine, theirs = Database.open(database_url), Database.open(database_url)
    async with only_one(mine):
        with pytest.raises(GarbageCollectionRunning, match=f"process {os.getpid()} on"):
            async with only_one(theirs):
                pass
    async with only_one(theirs):
        pass
    # the connection that had the lock is used again by others, under no other name
    async with mine.reading() as connection:
        assert "process" not in (await connection.execute(text("SHOW application_name"))).scalar_one()
    await mine.close()
    await theirs.close()


@POSTGRES
async def test_of_a_database_whose_connection_broke(database_url: str) -> None:
    mine, theirs = Database.open(database_url), Database.open(database_url)
    others = text("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'process %'")
    async with only_one(mine):
        async with theirs.reading() as connection:
            for pid in (await connection.execute(others)).scalars().all():
                await connection.execute(select(func.pg_terminate_backend(pid)))
    async with only_one(theirs):
        pass
    await mine.ping()
    await mine.close()
    await theirs.close()
