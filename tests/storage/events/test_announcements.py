"""Machines that share a database but no files hear of each other's changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.database.engine import Database, migrate
from storage.events.announcements import announce, listening
from storage.events.changes import Changes
from tests.support.servers.postgres import Postgres

pytestmark = pytest.mark.services
DEADLINE = 20


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_committed_change_is_heard_and_one_that_is_rolled_back_is_not(
    postgres_url: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(migrate, postgres_url)
    database = Database.open(postgres_url)
    changes = Changes(tmp_path / "changes")
    async with listening(postgres_url, changes):
        await until(lambda: not changes.blind)
        before = {name: changes.stamp(name) for name in ("a", "b", "c")}
        with contextlib.suppress(ZeroDivisionError):
            async with database.writing() as connection:
                await announce(connection, "a")
                raise ZeroDivisionError
        async with database.writing() as connection:
            await announce(connection, "b")
            assert changes.stamp("b") == before["b"]
        await until(lambda: changes.stamp("b") != before["b"])
        assert {name: changes.stamp(name) for name in ("a", "c")} == {"a": before["a"], "c": before["c"]}
    await database.close()


async def test_who_cannot_hear_believes_nothing(postgres: Postgres, postgres_url: str, tmp_path: Path) -> None:
    changes = Changes(tmp_path / "changes")
    async with listening(postgres_url, changes):
        await until(lambda: not changes.blind)
        assert changes.stamp("a") == changes.stamp("a")
        before = changes.stamp("a")
        postgres.stop()
        await until(lambda: changes.blind)
        assert changes.stamp("a") != changes.stamp("a")
        postgres.start()
        await until(lambda: not changes.blind)
        assert changes.stamp("a") == changes.stamp("a") != before
