"""The queue: one build for any number of requests, across processes, that outlives them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from builder.errors import DownloadFailed, Unsatisfiable
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.queue.embedded import BuildQueue, is_dead
from builder.queue.job import Job
from builder.settings import BuilderSettings
from storage.catalog.builds import Builds
from storage.database.engine import sqlite_url
from tests.support.storage.stores import count_builds, open_stores

JOB = Job("image", EnvironmentSpec(items=(PackageItem("numpy"),), channels=("conda-forge",)))
SETTINGS = BuilderSettings(failure_memory=30)


@pytest.fixture
async def builds(tmp_path: Path) -> AsyncIterator[Builds]:
    async with open_stores(tmp_path) as stores:
        yield stores.catalog.builds


class Work:
    """Counts its runs and lasts until it is released."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.runs = 0
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.failure = failure

    async def __call__(self, job: Job, build_id: str) -> None:
        assert job == JOB
        assert build_id
        self.runs += 1
        self.started.set()
        await self.release.wait()
        if self.failure:
            raise self.failure


async def test_one_build_for_many_requests(builds: Builds) -> None:
    work = Work()
    queue = BuildQueue(builds, work, SETTINGS)
    flights = [queue.submit(JOB) for _ in range(50)]
    await work.started.wait()
    work.release.set()
    assert [await flight.ended for flight in flights] == [None] * 50
    assert work.runs == 1
    assert await count_builds(builds, JOB.key) == 1
    await queue.close()


async def test_two_queues_share_a_build(builds: Builds) -> None:
    work = Work()
    first, second = BuildQueue(builds, work, SETTINGS), BuildQueue(builds, work, SETTINGS)
    one = first.submit(JOB)
    await work.started.wait()
    other = second.submit(JOB)
    await asyncio.sleep(0.5)
    assert not other.ended.done()
    work.release.set()
    assert (await one.ended, await other.ended) == (None, None)
    assert work.runs == 1
    assert one.build_id == other.build_id
    await first.close()
    await second.close()


async def test_a_failure_is_remembered_for_a_while(builds: Builds) -> None:
    work = Work(Unsatisfiable("linux-64", "numpy 9 does not exist"))
    work.release.set()
    queue = BuildQueue(builds, work, SETTINGS)
    failure = await queue.submit(JOB).ended
    assert failure is not None
    assert "numpy 9 does not exist" in str(failure)
    assert failure.kind == "Unsatisfiable"
    remembered = await queue.remembered_failure(JOB)
    assert remembered is not None
    assert str(remembered) == str(failure)
    forgetful = BuildQueue(builds, work, SETTINGS.model_copy(update={"failure_memory": 0}))
    assert await forgetful.remembered_failure(JOB) is None
    await queue.close()


async def test_a_defect_is_a_failure_that_says_little(builds: Builds) -> None:
    work = Work(ZeroDivisionError("secret"))
    work.release.set()
    queue = BuildQueue(builds, work, SETTINGS)
    failure = await queue.submit(JOB).ended
    assert failure is not None
    assert "internal error" in str(failure)
    assert "secret" not in str(failure)
    await queue.close()


async def test_closing_leaves_the_build_to_be_resumed(builds: Builds) -> None:
    work = Work()
    queue = BuildQueue(builds, work, SETTINGS)
    queue.submit(JOB)
    await work.started.wait()
    await queue.close()
    (row,) = await builds.unfinished()
    assert row.key == JOB.key


async def test_the_build_of_a_killed_process_is_resumed(builds: Builds, tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
sys.path.insert(0, {os.getcwd()!r})
from builder.queue.job import Job
from builder.queue.embedded import owner_of_this_process
from storage.catalog.builds import Builds
from storage.database.engine import Database
async def main():
    builds = Builds(Database.open({sqlite_url(tmp_path / "condery.sqlite")!r}))
    await builds.begin("killed", {JOB.key!r}, {JOB.to_json()!r}, owner_of_this_process())
    print("begun", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)
    (row,) = await builds.unfinished()
    assert not is_dead(row)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)
    assert is_dead(row)
    work = Work()
    work.release.set()
    queue = BuildQueue(builds, work, SETTINGS)
    await queue.start()
    assert await queue.submit(JOB).ended is None
    assert work.runs == 1
    row_after = await builds.last(JOB.key)
    assert row_after is not None
    assert (row_after.id, row_after.status, row_after.attempts) == ("killed", "COMPLETED", 2)
    await queue.close()


@pytest.mark.parametrize("reason", ["a member b\udcff", "a \0 in it", "a\x1b[2J"])
async def test_a_reason_that_is_no_text_is_recorded(builds: Builds, reason: str) -> None:
    """A package decides the bytes of what it is refused for. A build that did not end would keep all others waiting."""
    work = Work(DownloadFailed("tool", reason))
    work.release.set()
    queue = BuildQueue(builds, work, SETTINGS)
    failure = await queue.submit(JOB).ended
    assert failure is not None
    remembered = await queue.remembered_failure(JOB)
    assert remembered is not None
    assert remembered.message == failure.message
    assert remembered.message.isprintable()
