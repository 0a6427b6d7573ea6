"""Leases and builds of machines whose clocks differ, on both databases."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from storage.catalog.builds import Builds, Wanted
from storage.database.engine import Database
from storage.database.leases import Leases
from storage.database.sql_clock import database_time
from tests.support.storage.stores import open_stores

HOUR = 3600.0


@pytest.fixture
async def database(tmp_path: Path, database_url: str) -> AsyncIterator[Database]:
    async with open_stores(tmp_path, url=database_url) as stores:
        yield stores.database


async def read_clock(database: Database) -> float:
    async with database.reading() as connection:
        return float((await connection.execute(select(database_time(database)))).scalar_one())


async def test_the_databases_clock_is_in_unix_seconds_and_goes_on(database: Database) -> None:
    before = time.time()
    times = [await read_clock(database) for _ in range(3)]
    # SQLite's has milliseconds
    assert before - 0.01 <= times[0] <= times[1] <= times[2] <= time.time() + 0.01
    assert times[2] > times[0]


@pytest.mark.parametrize("wrong", [-HOUR, HOUR])
async def test_a_wrong_clock_neither_takes_nor_loses_a_lease(
    database: Database, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    leases, right = Leases(database), time.time
    assert await leases.take("l", "right", 60)
    monkeypatch.setattr(time, "time", lambda: right() + wrong)
    assert not await leases.take("l", "wrong", 60)
    assert await leases.take("m", "wrong", 60)
    monkeypatch.setattr(time, "time", right)
    assert await leases.take("l", "right", 60)
    assert not await leases.take("m", "right", 60)


@pytest.mark.parametrize("wrong", [-HOUR, HOUR])
async def test_what_a_wrong_clock_begins_has_the_times_of_all(
    database: Database, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    builds, right = Builds(database), time.time
    monkeypatch.setattr(time, "time", lambda: right() + wrong)
    assert await builds.begin("b", "key", {}, "me")
    assert await builds.beat("me", ["b"]) == {"b": Wanted(0, None)}
    assert await builds.complete("b", "made")
    monkeypatch.setattr(time, "time", right)
    row = await builds.find("b")
    assert row is not None
    assert row.ended is not None
    assert 0 <= row.now - row.heartbeat < 60
    assert 0 <= row.now - row.created < 60
    assert 0 <= row.now - row.ended < 60
