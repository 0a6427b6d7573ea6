"""Logs' promises: nothing is lost or doubled, there is never half a record, and what has ended is one blob."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from storage.database.log_tables import environment_log, environment_log_piece
from storage.digest import Digest
from storage.environments.log_record import read_records, write_records
from storage.environments.logs import ABANDONED_SECONDS, PAGE, Appended, Logs, LogState
from storage.events.changes import Changes
from storage.garbage.collection import Garbage
from storage.garbage.rehearsal import rehearse
from storage.integrity.repair import repair
from storage.integrity.verify import Verifier
from tests.support.storage.content import NEVER
from tests.support.storage.stores import Stores, open_stores


@pytest.fixture
async def stores(tmp_path: Path, database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(tmp_path, url=database_url) as opened:
        yield opened


@pytest.fixture
def logs(stores: Stores) -> Logs:
    return Logs(stores.blobs)


def records(*texts: str) -> bytes:
    return b"".join(record for text in texts for record in write_records("line", text))


def texts(content: bytes) -> list[str]:
    return [record.text for record, _ in read_records(content)]


async def read_all(logs: Logs, build: int, start: int = 0) -> list[str]:
    found: list[str] = []
    while (page := await logs.read(build, start)).content:
        assert page.content.endswith(b"\n")
        found += texts(page.content)
        start = page.stop
    return found


async def count_pieces(stores: Stores) -> int:
    [row] = await stores.rows(select(func.count()).select_from(environment_log_piece))
    return int(row[0])


async def test_what_is_appended_is_read_from_any_record_on(logs: Logs) -> None:
    first, second = records("a", "b"), records("c")
    assert await logs.append([Appended(7, first, begins=True)]) == {7: len(first)}
    assert await logs.append([Appended(7, second)]) == {7: len(first + second)}
    assert await read_all(logs, 7) == ["a", "b", "c"]
    assert await read_all(logs, 7, first.index(b"\n") + 1) == ["b", "c"]
    assert await read_all(logs, 7, len(first)) == ["c"]
    assert await read_all(logs, 7, len(first) - 3) == ["c"]
    assert await read_all(logs, 7, len(first + second)) == []
    assert await read_all(logs, 7, 10**15) == []
    page = await logs.read(7, 0, len(first))
    assert texts(page.content) == ["a", "b"]
    assert await logs.find(7) == LogState(len(first + second), ended=False)


async def test_a_log_that_is_not_there_is_empty(logs: Logs) -> None:
    assert await read_all(logs, 1) == []
    assert await logs.find(1) is None
    assert await logs.append([Appended(1, records("a"))]) == {}
    await logs.finish(1)
    assert await logs.find(1) is None


async def test_what_has_ended_is_one_blob_and_reads_the_same(logs: Logs, stores: Stores) -> None:
    content = b""
    for number in range(40):
        piece = records(*(f"{number}.{line} {'x' * 300}" for line in range(50)))
        await logs.append([Appended(3, piece, begins=True)])
        content += piece
    before = await read_all(logs, 3)
    await logs.finish(3)
    await logs.finish(3)
    assert await read_all(logs, 3) == before
    assert len(before) == 2000
    assert await count_pieces(stores) == 0
    assert await stores.content(Digest.of(content)) == content
    assert await logs.find(3) == LogState(len(content), ended=True)
    assert await logs.append([Appended(3, records("late"), begins=True)]) == {}
    assert (await logs.read(3, 0)).stop <= PAGE


async def test_two_writers_of_one_log_append_one_after_the_other(logs: Logs) -> None:
    await asyncio.gather(*(logs.append([Appended(5, records(f"{number}"), begins=True)]) for number in range(30)))
    assert sorted(await read_all(logs, 5), key=int) == [str(number) for number in range(30)]


async def test_writers_of_several_logs_in_any_order_do_not_wait_for_each_other_for_ever(logs: Logs) -> None:
    builds = list(range(8))

    async def append(order: list[int]) -> None:
        for number in range(10):
            await logs.append([Appended(build, records(f"{number}"), begins=True) for build in order])

    await asyncio.gather(append(builds), append(builds[::-1]), append(builds[4:] + builds[:4]))
    for build in builds:
        assert len(await read_all(logs, build)) == 30


async def test_processes_that_end_a_log_at_once_keep_it_once(logs: Logs, stores: Stores) -> None:
    for number in range(20):
        await logs.append([Appended(5, records(*[f"{number} {'x' * 3000}"] * 20), begins=True)])
    before = await read_all(logs, 5)
    others = [Logs(stores.blobs) for _ in range(4)]
    await asyncio.gather(*(each.finish(5) for each in (logs, *others)))
    assert await read_all(logs, 5) == before
    assert await count_pieces(stores) == 0
    assert len(await stores.stored()) == 1


async def test_the_collection_keeps_the_blob_until_the_log_is_deleted(logs: Logs, stores: Stores) -> None:
    await logs.append([Appended(5, records("a"), begins=True)])
    await logs.finish(5)
    policy = replace(NEVER, grace=0.0, linger=0.0)
    garbage = Garbage(stores.blobs, Changes(stores.root / "changes"), policy)
    await asyncio.sleep(0.05)
    assert (await rehearse(stores.blobs, policy)).steps["blobs"].count == 0
    await garbage.collect()
    assert await read_all(logs, 5) == ["a"]
    await logs.delete(5)
    assert await read_all(logs, 5) == []
    assert (await rehearse(stores.blobs, policy)).steps["blobs"].count == 1
    await garbage.collect()
    assert await stores.stored() == []
    assert stores.files() == []


async def test_what_a_deleted_build_still_says_is_lost(logs: Logs, stores: Stores) -> None:
    await logs.append([Appended(5, records("a"), begins=True)])
    await logs.delete(5)
    assert await logs.append([Appended(5, records("b"))]) == {}
    assert await count_pieces(stores) == 0


async def test_a_log_deleted_while_it_is_kept_leaves_nothing_behind(logs: Logs, stores: Stores) -> None:
    for number in range(10):
        await logs.append([Appended(5, records(*[f"{number} {'x' * 3000}"] * 20), begins=True)])
    await asyncio.gather(logs.finish(5), logs.delete(5))
    assert await read_all(logs, 5) == []
    assert await count_pieces(stores) == 0


async def test_what_could_not_be_kept_is_settled_later(logs: Logs, stores: Stores) -> None:
    await logs.append([Appended(1, records("a"), begins=True), Appended(2, records("b"), begins=True)])
    await logs.append([Appended(3, records("c"), begins=True)])
    async with stores.database.writing() as connection:
        table = environment_log
        # as if the process had died between the end and the blob, and as if nobody had written for long
        await connection.execute(update(table).where(table.c.build == 1).values(ended=True))
        long_ago = table.c.written - ABANDONED_SECONDS - 60
        await connection.execute(update(table).where(table.c.build == 2).values(written=long_ago))
    assert await logs.settle() == 2
    assert await logs.settle() == 0
    states = await logs.find_all([1, 2, 3])
    assert [states[build].ended for build in (1, 2, 3)] == [True, True, False]
    assert await count_pieces(stores) == 1
    assert [await read_all(logs, build) for build in (1, 2, 3)] == [["a"], ["b"], ["c"]]


async def test_a_damaged_blob_is_named_and_the_log_is_empty_after_the_repair(logs: Logs, stores: Stores) -> None:
    await logs.append([Appended(5, records("a"), begins=True)])
    await logs.finish(5)
    [path] = [path for path in (stores.root / "blobs").rglob("*") if path.is_file()]
    path.write_bytes(b"other")
    found = await Verifier(stores.blobs).verify()
    assert [damage.needed_by for damage in found.damage] == [("the log of build 5",)]
    await repair(stores.blobs, Changes(stores.root / "changes"), found)
    assert await read_all(logs, 5) == []
    assert await logs.find(5) == LogState(0, ended=True)
    assert await stores.stored() == []
