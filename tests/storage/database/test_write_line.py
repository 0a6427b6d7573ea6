"""Writers of one process, one after another."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import text

from storage.database.engine import Database, migrate, sqlite_url
from storage.database.write_line import PASSES, WriteLine, standing_behind
from storage.errors import StorageBusy

MANY = 40
"""More writers than the pool has connections."""


class Writers:
    """Writers of a line that is held, and the order in which they had their turns."""

    def __init__(self, seconds: float = 60) -> None:
        self.line = WriteLine(seconds)
        self.order: list[str] = []

    async def write(self, name: str) -> None:
        async with self.line.turn():
            self.order.append(name)
            await asyncio.sleep(0)

    async def start(self, name: str, behind: Callable[[], bool] = lambda: False) -> asyncio.Task[None]:
        with standing_behind(behind):
            task = asyncio.create_task(self.write(name))
        await asyncio.sleep(0)
        return task


async def test_they_go_in_the_order_in_which_they_came() -> None:
    writers = Writers()
    async with writers.line.turn():
        tasks = [await writers.start(str(number)) for number in range(5)]
    await asyncio.gather(*tasks)
    assert writers.order == ["0", "1", "2", "3", "4"]


async def test_some_stand_behind_but_not_for_ever() -> None:
    writers = Writers()
    async with writers.line.turn():
        tasks = [await writers.start(f"behind {number}", lambda: True) for number in range(2)]
        tasks += [await writers.start(f"ahead {number}") for number in range(PASSES + 1)]
    await asyncio.gather(*tasks)
    ahead = [f"ahead {number}" for number in range(PASSES + 1)]
    assert writers.order == [*ahead[:PASSES], "behind 0", *ahead[PASSES:], "behind 1"]


async def test_who_leaves_the_line_leaves_no_gap() -> None:
    writers = Writers()
    async with writers.line.turn():
        first, second, third = [await writers.start(name) for name in ("first", "second", "third")]
        second.cancel()
    # the first has its turn from now on, but has not noticed it yet
    first.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert first.cancelled()
    assert second.cancelled()
    assert writers.order == ["third"]
    await writers.write("fourth")
    assert writers.order == ["third", "fourth"]


@pytest.mark.parametrize("behind", [False, True], ids=["ahead", "behind"])
async def test_who_is_cancelled_as_the_turn_ends_breaks_nothing(behind: bool) -> None:
    """A place is cancelled at once, but whoever waits there runs only after the turn has been passed on."""
    writers = Writers()
    async with writers.line.turn():
        leaving = await writers.start("leaving", lambda: behind)
        staying = await writers.start("staying", lambda: behind)
        leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert leaving.cancelled()
    await staying
    await writers.write("next")
    assert writers.order == ["staying", "next"]


async def test_any_number_may_leave_at_any_time() -> None:
    """The line's own time ends as well, at moments of its own."""
    writers = Writers(seconds=0.01)
    random = Random(0)

    async def write() -> None:
        async with writers.line.turn():
            await asyncio.sleep(random.choice([0, 0.001]))

    for _ in range(20):
        tasks = [asyncio.create_task(write()) for _ in range(50)]
        while unfinished := [task for task in tasks if not task.done()]:
            random.choice(unfinished).cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(writers.write("last"), 10)
    assert writers.order == ["last"]


async def test_a_failed_writer_passes_the_turn_on() -> None:
    writers = Writers()

    async def fail() -> asyncio.Task[None]:
        async with writers.line.turn():
            following.append(await writers.start("next"))
            raise ZeroDivisionError

    following: list[asyncio.Task[None]] = []
    with pytest.raises(ZeroDivisionError):
        await fail()
    await following[0]
    assert writers.order == ["next"]


async def test_nobody_waits_without_end() -> None:
    writers = Writers(seconds=0.01)
    async with writers.line.turn():
        late = await writers.start("late")
        with pytest.raises(StorageBusy):
            await late
    await writers.write("next")
    assert writers.order == ["next"]


async def test_a_writer_that_is_cancelled_at_any_moment_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "condery.sqlite"
    migrate(sqlite_url(path))
    database = Database.open(sqlite_url(path))
    random = Random(0)

    async def write() -> None:
        async with database.writing() as connection:
            for _ in range(5):
                await connection.execute(text("UPDATE build SET status = status"))

    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        for _ in range(200):
            task = asyncio.create_task(write())
            await asyncio.sleep(random.random() * 0.003)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
    await write()
    await database.close()


async def test_readers_need_not_wait_for_writers(tmp_path: Path) -> None:
    path = tmp_path / "condery.sqlite"
    migrate(sqlite_url(path))
    database = Database.open(sqlite_url(path))

    async def write() -> None:
        async with database.writing() as connection:
            await connection.execute(text("UPDATE build SET status = status"))

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writers = [asyncio.create_task(write()) for _ in range(MANY)]
        await asyncio.sleep(0)
        for _ in range(MANY):
            await database.ping()
        assert not any(writer.done() for writer in writers)
        other.execute("COMMIT")
        await asyncio.gather(*writers)
    await database.close()
