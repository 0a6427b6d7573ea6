"""The writers' promises: they make nobody wait, lose nothing while the database works, and say what they lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.database.log_tables import environment_log_piece as piece
from storage.environments import log_writing
from storage.environments.log_record import LogRecord, read_records
from storage.environments.log_writing import LogWriters
from storage.environments.logs import Logs, LogState
from tests.support.servers.postgres import Postgres
from tests.support.small_disk import small_disk
from tests.support.storage.stores import Stores, open_stores


@pytest.fixture
async def stores(tmp_path: Path, database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(tmp_path, url=database_url) as opened:
        yield opened


async def read_all(logs: Logs, build: int) -> list[LogRecord]:
    found: list[LogRecord] = []
    start = 0
    while (page := await logs.read(build, start)).content:
        found += [record for record, _ in read_records(page.content)]
        start = page.stop
    return found


async def texts_of(logs: Logs, build: int) -> list[str]:
    return [record.text for record in await read_all(logs, build)]


async def count_transactions(stores: Stores, build: int) -> int:
    return len(await stores.rows(piece.select().where(piece.c.build == build)))


async def test_many_lines_of_many_builds_are_few_transactions(stores: Stores) -> None:
    logs = Logs(stores.blobs)
    writers = LogWriters(logs)
    opened = [writers.open(build) for build in range(5)]
    for number in range(2000):
        for writer in opened:
            writer.write("line", f"line {number}")
            await writer.make_room()
    for writer in opened:
        await writer.flush()
        assert await texts_of(logs, writer.build) == [f"line {number}" for number in range(2000)]
        assert await count_transactions(stores, writer.build) < 20
        await writers.end(writer)
        assert (await logs.find(writer.build) or LogState(0, False)).ended
        assert len(await texts_of(logs, writer.build)) == 2000
    await writers.close()


async def test_what_was_said_is_read_a_moment_later_without_a_flush(stores: Stores) -> None:
    logs = Logs(stores.blobs)
    writers = LogWriters(logs)
    writer = writers.open(1)
    for number in range(3):
        writer.write("state", f"{number}", {"status": "BUILDING"})
        async with asyncio.timeout(30):
            while await texts_of(logs, 1) != [f"{each}" for each in range(number + 1)]:
                await asyncio.sleep(0.02)
    await writers.close()


async def test_another_process_continues_a_log(stores: Stores) -> None:
    logs = Logs(stores.blobs)
    first, second = LogWriters(logs), LogWriters(logs)
    writer = first.open(1)
    writer.write("line", "first")
    await first.release(writer)
    writer.write("line", "after it gave the build away")
    other = second.open(1)
    other.write("line", "second")
    await second.end(other)
    other.write("line", "late")
    await first.close()
    await second.close()
    assert await texts_of(logs, 1) == ["first", "second"]


async def test_a_log_has_a_bound_and_says_so_once(stores: Stores) -> None:
    logs = Logs(stores.blobs)
    writers = LogWriters(logs, most=20_000)
    writer = writers.open(1)
    for number in range(1000):
        writer.write("line", f"{number} {'x' * 100}")
        if number % 50 == 0:
            await writer.flush()
    writer.write("state", "FAILED", {"status": "FAILED"})
    await writers.end(writer)
    await writers.close()
    found = await read_all(logs, 1)
    assert [record.kind for record in found].count("cut") == 1
    assert [record.kind for record in found[-2:]] == ["cut", "state"]
    assert "20,000 bytes" in found[-2].text
    assert (await logs.find(1) or LogState(0, False)).size < 21_000


async def test_what_does_not_fit_into_memory_is_counted(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writing, "MOST_WAITING", 10_000)
    logs = Logs(stores.blobs)
    writers = LogWriters(logs)
    writer = writers.open(1)
    # without a pause nothing can be written meanwhile
    for number in range(1000):
        writer.write("line", f"{number}")
    writer.write("state", "BUILDING", {"status": "BUILDING"})
    await writer.flush()
    writer.write("line", "afterwards")
    await writers.end(writer)
    await writers.close()
    found = await read_all(logs, 1)
    lost = [record for record in found if record.kind == "lost"]
    kept = [record for record in found if record.kind == "line"]
    assert sum(int(record.data["lines"] or 0) for record in lost) + len(kept) == 1001
    assert lost[0].text == f"{lost[0].data['lines']:,} lines are missing here: the database did not take them in time"
    assert "state" in [record.kind for record in found]
    assert found[-1].text == "afterwards"


@pytest.mark.services
async def test_nothing_is_lost_or_doubled_while_the_database_is_away(postgres: Postgres, tmp_path: Path) -> None:
    async with open_stores(tmp_path, url=postgres.new_database()) as stores:
        logs = Logs(stores.blobs)
        writers = LogWriters(logs)
        writer = writers.open(1)
        for round_ in range(3):
            for number in range(300):
                writer.write("line", f"{round_}.{number}")
                if number % 20 == 0:
                    await asyncio.sleep(0.01)
                if number == 150:
                    await asyncio.to_thread(postgres.kill)
            # while it is away, nobody who has much to say waits for it
            await writer.make_room()
            await asyncio.to_thread(postgres.start)
        async with asyncio.timeout(60):
            while writer.is_waiting:
                await writer.flush()
        await writers.end(writer)
        await writers.close()
        expected = [f"{round_}.{number}" for round_ in range(3) for number in range(300)]
        assert await texts_of(logs, 1) == expected


def fill(directory: Path) -> Path:
    """The file that takes all the room there is."""
    path = directory / "ballast"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return path


async def test_a_full_disk_fails_nobody_and_the_log_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        async with open_stores(disk) as stores:
            logs = Logs(stores.blobs)
            writers = LogWriters(logs)
            writer = writers.open(1)
            writer.write("line", "before")
            await writer.flush()
            ballast = fill(disk)
            for number in range(500):
                writer.write("line", f"{number} {'x' * 500}")
            async with asyncio.timeout(60):
                while not writer._is_stuck:
                    await asyncio.sleep(0.05)
            await writer.make_room()
            ballast.unlink()
            async with asyncio.timeout(60):
                while writer.is_waiting:
                    await writer.flush()
            await writers.end(writer)
            await writers.close()
            found = await texts_of(logs, 1)
            assert found == ["before", *(f"{number} {'x' * 500}" for number in range(500))]


WRITES = """
import asyncio, sys
from pathlib import Path
from storage.blobs.store import BlobStore
from storage.database.engine import Database
from storage.environments.logs import Logs
from storage.environments.log_writing import LogWriters
from storage.objects.files import FileObjects

async def main():
    root = Path(sys.argv[2])
    database = Database.open(sys.argv[1])
    writer = LogWriters(Logs(BlobStore(database, FileObjects(root / "blobs"), root / "fragments"))).open(1)
    number = 0
    while True:
        for _ in range(50):
            writer.write("line", f"{number} {'y' * 200}")
            number += 1
        await writer.flush()
        print(number, flush=True)

asyncio.run(main())
"""


async def test_who_is_killed_while_writing_leaves_whole_records_and_all_that_was_flushed(
    stores: Stores, database_url: str, tmp_path: Path
) -> None:
    logs = Logs(stores.blobs)
    told = 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITES, database_url, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(8):
                told = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            told = max([told, *(int(line) for line in process.stdout.read().splitlines())])
        found = await texts_of(logs, 1)
        assert len(found) >= told
        assert found == [f"{number} {'y' * 200}" for number in range(len(found))]
        await logs.delete(1)
