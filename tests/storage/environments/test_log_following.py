"""The readers' promises: all of a log, once and in order, however slow they are; and no more memory than they need."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.environments.log_following import LogFollowing, LogReader
from storage.environments.log_record import read_records, write_records
from storage.environments.log_writing import LogWriters
from storage.environments.logs import Appended, Logs, Page
from tests.support.storage.stores import Stores, open_stores

LONG = 30.0


@pytest.fixture
async def stores(tmp_path: Path, database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(tmp_path, url=database_url) as opened:
        yield opened


@pytest.fixture
async def elsewhere(tmp_path: Path, database_url: str) -> AsyncIterator[Logs]:
    """The same logs, through other connections, as another process has them."""
    async with open_stores(tmp_path, url=database_url) as opened:
        yield Logs(opened.blobs)


@pytest.fixture
async def following(stores: Stores) -> AsyncIterator[LogFollowing]:
    async with contextlib.aclosing(LogFollowing(Logs(stores.blobs))) as opened:
        yield opened


def records(*texts: str) -> bytes:
    return b"".join(record for text in texts for record in write_records("line", text))


def texts_of(page: Page) -> list[str]:
    return [record.text for record, _ in read_records(page.content)]


async def read_to_end(reader: LogReader, pause: float = 0.0) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(4 * LONG):
        while True:
            page = await reader.next(LONG)
            if page is not None:
                found += texts_of(page)
            elif reader.is_over:
                return found
            await asyncio.sleep(pause)


async def test_readers_of_any_speed_get_all_of_it_in_order(
    stores: Stores, elsewhere: Logs, following: LogFollowing
) -> None:
    writers = LogWriters(elsewhere)
    writer = writers.open(1)

    async def follow(pause: float) -> list[str]:
        with following.reading(1) as reader:
            return await read_to_end(reader, pause)

    readers = [asyncio.create_task(follow(pause)) for pause in (0, 0, 0, 0.05, 0.3)]
    expected = []
    for number in range(6000):
        expected.append(f"{number} {'x' * 200}")
        writer.write("line", expected[-1])
        await writer.make_room()
        if number % 100 == 0:
            await asyncio.sleep(0.02)
    late = asyncio.create_task(follow(0))
    await writers.end(writer)
    await writers.close()
    for task in (*readers, late):
        assert await task == expected


async def test_a_reader_begins_at_any_record(elsewhere: Logs, following: LogFollowing) -> None:
    first, second = records("a", "b"), records("c")
    await elsewhere.append([Appended(1, first, begins=True)])
    positions = {0: ["a", "b", "c"], first.index(b"\n") + 1: ["b", "c"], len(first): ["c"], len(first) - 2: ["c"]}
    with contextlib.ExitStack() as stack:
        readers = {start: stack.enter_context(following.reading(1, start)) for start in positions}
        tasks = {start: asyncio.create_task(read_to_end(reader)) for start, reader in readers.items()}
        await asyncio.sleep(0.3)
        await elsewhere.append([Appended(1, second)])
        await elsewhere.finish(1)
        for start, task in tasks.items():
            assert await task == positions[start]


async def test_a_position_within_what_is_in_memory_means_the_next_record(
    elsewhere: Logs, following: LogFollowing
) -> None:
    await elsewhere.append([Appended(1, records("a"), begins=True)])
    with following.reading(1) as reader:
        assert await reader.next(LONG) is not None
        for texts in (["b", "c"], ["d"]):
            await elsewhere.append([Appended(1, records(*texts))])
            page = await reader.next(LONG)
            assert page is not None
            assert texts_of(page) == texts
            if texts == ["b", "c"]:
                first, last = page.position + 3, page.stop - 3
        with following.reading(1, first) as other:
            assert texts_of(await other.next(LONG) or Page(0, b"")) == ["c"]
        with following.reading(1, last) as other:
            assert texts_of(await other.next(LONG) or Page(0, b"")) == ["d"]


async def test_a_position_beyond_the_end_means_the_end(elsewhere: Logs, following: LogFollowing) -> None:
    await elsewhere.append([Appended(1, records("a"), begins=True)])
    with following.reading(1, 10**15) as reader:
        assert await reader.next(0.5) is None
        await elsewhere.append([Appended(1, records("b"))])
        assert texts_of(await reader.next(LONG) or Page(0, b"")) == ["b"]


async def test_readers_at_the_end_share_what_is_made_of_a_page(elsewhere: Logs, following: LogFollowing) -> None:
    made = []

    def view(position: int, content: bytes) -> bytes:
        made.append(position)
        return content.upper()

    await elsewhere.append([Appended(1, records("a"), begins=True)])
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(following.reading(1, 10**9)) for _ in range(20)]
        assert [await reader.next(0.3) for reader in readers[:1]] == [None]
        tasks = [asyncio.create_task(reader.next(LONG)) for reader in readers]
        await elsewhere.append([Appended(1, records("b"))])
        pages = [page for page in await asyncio.gather(*tasks) if page is not None]
        assert len({page.through(view) for page in pages}) == 1
    assert (len(pages), len(made)) == (20, 1)


async def test_a_log_that_begins_later_is_followed(elsewhere: Logs, following: LogFollowing) -> None:
    with following.reading(1) as reader:
        assert await reader.next(0.3) is None
        assert not reader.is_over
        await elsewhere.append([Appended(1, records("a"), begins=True)])
        await elsewhere.finish(1)
        assert await read_to_end(reader) == ["a"]


async def test_a_log_that_is_deleted_is_over(elsewhere: Logs, following: LogFollowing) -> None:
    await elsewhere.append([Appended(1, records("a"), begins=True)])
    with following.reading(1) as reader:
        assert await reader.next(LONG) is not None
        await elsewhere.delete(1)
        assert await read_to_end(reader) == []


async def test_nothing_is_kept_or_asked_once_nobody_reads(elsewhere: Logs, following: LogFollowing) -> None:
    await elsewhere.append([Appended(1, records("a"), begins=True)])
    for _ in range(3):
        with following.reading(1) as reader:
            assert await reader.next(LONG) is not None
    assert following._followed == {}
    async with asyncio.timeout(LONG):
        assert following._task is not None
        await following._task
