"""What the engine within the server does when something under it fails, or comes between two of its steps."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Collection, Mapping

import pytest
from sqlalchemy import update

from builder.errors import BuildFailed
from builder.queue import embedded
from builder.queue.embedded import EmbeddedQueue
from builder.queue.job import Job
from builder.queue.protocol import Priority
from storage.catalog.builds import BuildRow, Builds, Wanted
from storage.database import tables
from storage.errors import StorageUnavailable
from storage.events.outbox import Record
from tests.builder.queue.engines import NUMPY, SETTINGS, Work, completed, until, wait_for_status


class Faulty(Builds):
    """The table of builds, with what may happen to a process in the middle of things."""

    def __init__(self, builds: Builds) -> None:
        super().__init__(builds._database)
        self.beats: list[Exception] = []
        """What the next beats fail with."""
        self.ends: list[Exception] = []
        self.beat_read = asyncio.Event()
        self.beat_may_end = asyncio.Event()
        self.beat_may_end.set()

    async def beat(self, owner: str, ids: Collection[str]) -> Mapping[str, Wanted]:
        if self.beats:
            raise self.beats.pop()
        priorities = await super().beat(owner, ids)
        self.beat_read.set()
        await self.beat_may_end.wait()
        return priorities

    async def complete(self, build_id: str, made: str, record: Record[None] | None = None) -> bool:
        if self.ends:
            raise self.ends.pop()
        return await super().complete(build_id, made, record)


@pytest.fixture
def faulty(builds: Builds) -> Faulty:
    return Faulty(builds)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def queue(faulty: Faulty, work: Work, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedQueue]:
    monkeypatch.setattr(embedded, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(embedded, "RESUME_SECONDS", 0.1)
    queue = EmbeddedQueue(faulty, work, SETTINGS)
    yield queue
    await queue.close()


@pytest.mark.parametrize("failure", [ZeroDivisionError("a defect"), StorageUnavailable("the database", "gone")])
async def test_the_heart_goes_on_after_a_failure(
    queue: EmbeddedQueue, faulty: Faulty, work: Work, failure: Exception
) -> None:
    faulty.beats = [failure]
    build = await queue.submit(NUMPY)
    await work.started.wait()
    await until(lambda: not faulty.beats)
    # as another process does it: only a beat can tell
    assert await faulty.fail(build.id, kind="BuildCanceled", message="ada canceled it", canceled=True)
    with pytest.raises(BuildFailed, match="ada canceled it"):
        await completed(build)
    await until(lambda: work.stopped)


async def test_a_build_whose_work_somebody_else_cancelled_fails(builds: Builds) -> None:
    """Nobody stopped the build itself: whoever waits is told, and the next one begins anew."""

    async def run(_job: Job) -> str:
        shared = asyncio.create_task(asyncio.sleep(600))
        shared.cancel()
        await shared
        return ""

    queue = EmbeddedQueue(builds, run, SETTINGS)
    with pytest.raises(BuildFailed, match="internal error"):
        await completed(await queue.submit(NUMPY))
    row = await builds.last(NUMPY.key)
    assert row is not None
    assert (row.status, row.error_transient) == ("FAILED", True)
    await queue.close()


async def test_whoever_waits_is_told_when_the_loop_ends(queue: EmbeddedQueue, work: Work) -> None:
    build = await queue.submit(NUMPY)
    await work.started.wait()
    task = queue._flights[NUMPY.key].task
    assert task is not None
    # as asyncio.run does with what is left
    task.cancel()
    with pytest.raises(Exception, match="stopping"):
        await completed(build)


async def leave(builds: Builds, owner: str, *, attempts: int = 1, job: Job = NUMPY) -> BuildRow:
    """The unfinished row of a process that has been silent for very long."""
    row = await builds.begin("left", NUMPY.key, job.to_json(), owner)
    assert row is not None
    async with builds._database.writing() as connection:
        await connection.execute(update(tables.build).values(heartbeat=1.0, attempts=attempts, status="BUILDING"))
    return row


async def test_what_another_leaves_later_is_resumed_unasked(queue: EmbeddedQueue, faulty: Faulty, work: Work) -> None:
    work.release.set()
    await queue.start()
    row = await leave(faulty, "gone/1/2")
    await wait_for_status(faulty, "COMPLETED")
    assert (after := await faulty.find(row.id)) is not None
    assert after.attempts == 2


async def test_what_it_could_not_end_is_resumed_unasked(queue: EmbeddedQueue, faulty: Faulty, work: Work) -> None:
    work.release.set()
    faulty.ends = [StorageUnavailable("the database", "gone")]
    await queue.start()
    build = await queue.submit(NUMPY)
    with pytest.raises(BuildFailed, match="gone"):
        await completed(build)
    await wait_for_status(faulty, "COMPLETED")
    assert (row := await faulty.find(build.id)) is not None
    assert row.status == "COMPLETED"


async def test_what_it_could_not_end_is_begun_anew_for_whoever_asks(
    queue: EmbeddedQueue, faulty: Faulty, work: Work
) -> None:
    """Also where nothing is resumed, as with the command line."""
    work.release.set()
    faulty.ends = [StorageUnavailable("the database", "gone")]
    with pytest.raises(BuildFailed, match="gone"):
        await completed(await queue.submit(NUMPY))
    assert (await completed(await queue.submit(NUMPY))).made == "key of numpy"


async def test_a_command_resumes_nothing_of_others(queue: EmbeddedQueue, faulty: Faulty, work: Work) -> None:
    work.release.set()
    other = Job("image", dataclasses.replace(NUMPY.spec, channels=("other",)))
    row = await leave(faulty, "gone/1/2")
    await completed(await queue.submit(other))
    await asyncio.sleep(0.5)
    assert (after := await faulty.find(row.id)) is not None
    assert after.status == "BUILDING"


@pytest.mark.parametrize("document", [{}, {**NUMPY.to_json(), "lock_key": "0" * 64}])
async def test_what_another_version_left_is_ended(
    queue: EmbeddedQueue, faulty: Faulty, document: dict[str, object]
) -> None:
    """Nobody would ever find its row to end it, and it would be begun again and again."""
    row = await faulty.begin("left", NUMPY.key, document, "")
    assert row is not None
    await queue.start()
    await wait_for_status(faulty, "FAILED")
    after = await faulty.find(row.id)
    assert after is not None
    assert after.error_kind == "VersionForeign"
    assert await faulty.list_unfinished() == []


@pytest.mark.parametrize("request_there", [{"kind": "image", "spec": "of the future"}, NUMPY.to_json()])
async def test_a_build_of_another_version_can_be_canceled(
    queue: EmbeddedQueue, faulty: Faulty, request_there: dict[str, object]
) -> None:
    """One that this version cannot read, or of which it would make another key."""
    row = await faulty.begin("0123456789ab", "another key", request_there, "another machine")
    assert row is not None
    assert await queue.cancel(row.id, "It took too long.")
    after = await faulty.find(row.id)
    assert after is not None
    assert (after.status, after.error_message) == ("CANCELED", "It took too long.")


async def test_a_beat_does_not_undo_what_was_just_set(queue: EmbeddedQueue, faulty: Faulty, work: Work) -> None:
    build = await queue.submit(NUMPY)
    await work.started.wait()
    faulty.beat_may_end.clear()
    faulty.beat_read.clear()
    await faulty.beat_read.wait()
    assert await queue.set_priority(build.id, Priority.HIGH)
    claim, told = queue._flights[NUMPY.key].claim, list[int]()
    with claim.watched(lambda: told.append(claim.priority)):
        faulty.beat_read.clear()
        faulty.beat_may_end.set()
        await faulty.beat_read.wait()
    assert Priority.NORMAL not in told
    assert claim.priority == Priority.HIGH


@pytest.mark.parametrize(("owner", "begun"), [("", ["numpy"]), ("gone/1/2", [])])
async def test_the_attempt_that_was_let_go_killed_nobody(
    queue: EmbeddedQueue, faulty: Faulty, work: Work, owner: str, begun: list[str]
) -> None:
    work.release.set()
    await leave(faulty, owner, attempts=5)
    await asyncio.gather((await queue.submit(NUMPY)).wait(30), return_exceptions=True)
    assert work.begun == begun


async def test_a_canceled_build_is_over_when_the_queue_is_closed(builds: Builds) -> None:
    """It may still be writing, and whoever closes the queue closes the database next."""
    begun, may_end, over = asyncio.Event(), asyncio.Event(), list[str]()

    async def run(job: Job) -> str:
        begun.set()
        try:
            return await asyncio.Future()
        finally:
            await may_end.wait()
            over.append((await builds.last(job.key) or row).status)

    queue = EmbeddedQueue(builds, run, SETTINGS)
    build = await queue.submit(NUMPY)
    await begun.wait()
    (row,) = await builds.list_unfinished()
    assert await queue.cancel(build.id, "ada canceled it")
    closing = asyncio.create_task(queue.close())
    await asyncio.sleep(0.05)
    may_end.set()
    await closing
    assert over == ["CANCELED"]
