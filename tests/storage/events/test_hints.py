"""Who waits for a change of a row looks after the change, and not all the time."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.database.engine import Database
from storage.events import hints, listening
from storage.events.hints import hear, hint
from tests.support.servers.postgres import Postgres

SOON = 20
CHANNEL = "condery_test"


class Hearer:
    """Hears hints about a database for as long as the block runs."""

    def __init__(self) -> None:
        self.told = 0
        self._heard = asyncio.Event()

    def tell(self) -> None:
        self.told += 1
        self._heard.set()

    @contextlib.asynccontextmanager
    async def hearing(self, url: str) -> AsyncIterator[None]:
        database = Database.open(url)
        task = asyncio.create_task(hear(database, CHANNEL, self.tell))
        try:
            await self.next()
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await database.close()

    async def next(self) -> None:
        async with asyncio.timeout(SOON):
            await self._heard.wait()
        self._heard.clear()

    async def silence(self) -> int:
        """How often it was told when nothing more has come for some time."""
        before = None
        while before != self.told:
            before = self.told
            await asyncio.sleep(10 * hints.TICK_SECONDS)
        self._heard.clear()
        return self.told


async def change(database: Database) -> None:
    async with database.writing() as connection:
        await connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS other (number INTEGER)")
        await connection.exec_driver_sql("INSERT INTO other VALUES (1)")
        await hint(connection, CHANNEL)


async def test_a_change_of_another_process_is_told_and_nothing_else(database_url: str) -> None:
    other, hearer = Database.open(database_url), Hearer()
    async with hearer.hearing(database_url):
        before = await hearer.silence()
        for number in range(3):
            await change(other)
            await hearer.next()
            assert await hearer.silence() == before + number + 1
        with contextlib.suppress(ZeroDivisionError):
            async with other.writing() as connection:
                await hint(connection, CHANNEL)
                raise ZeroDivisionError
        assert await hearer.silence() == before + 3
    await other.close()


@pytest.mark.services
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_it_is_heard_again_after_a_restart(
    postgres: Postgres, postgres_url: str, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(listening, "RETRY_SECONDS", 0.05)
    hearer, other = Hearer(), Database.open(postgres_url)
    async with hearer.hearing(postgres_url):
        await hearer.silence()
        await asyncio.to_thread(getattr(postgres, end))
        await hearer.next()
        await asyncio.to_thread(postgres.start)
        # the last one is for what was said in between
        before = await hearer.silence()
        await change(other)
        await hearer.next()
        assert await hearer.silence() == before + 1
    await other.close()


async def test_it_is_heard_again_after_the_file_could_not_be_read(
    migrated_sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "RETRY_SECONDS", 0.05)
    file, away = tmp_path / "condery.sqlite", tmp_path / "away"
    content = file.read_bytes()
    file.unlink()
    file.mkdir()
    hearer = Hearer()
    async with hearer.hearing(migrated_sqlite):
        # told for nothing, so that whoever waits looks themselves
        await hearer.next()
        file.rename(away)
        file.write_bytes(content)
        before = await hearer.silence()
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE other (number INTEGER)")
        await hearer.next()
        assert hearer.told == before + 1
