"""Waiting for another process's build: waiters hear of its end, and many cost no more queries than one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from builder.errors import BuildCanceled, BuildFailed
from builder.queue import watcher
from builder.queue.protocol import CompletedBuild, SubmittedBuild
from storage.catalog.builds import BuildRow, Builds
from storage.database import tables
from storage.database.engine import Database
from storage.errors import StorageUnavailable
from storage.events import hints
from tests.builder.queue.engines import NUMPY, Engines, Work, completed, job, until
from tests.support.servers.postgres import Postgres

LONG = 600.0
WAITERS = 100


@pytest.fixture
async def elsewhere(engines: Engines, url: str) -> AsyncIterator[Engines]:
    """Engines of other processes: they share nothing but the database."""
    database = Database.open(url)
    async with Engines.opened(engines.kind, Builds(database), url) as opened:
        yield opened
    await database.close()


@pytest.fixture
def only_what_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "LOOK_SECONDS", LONG)


async def waiting_for(*builds: SubmittedBuild | None) -> list[asyncio.Task[CompletedBuild | None]]:
    """Those who wait, when they have looked and know that there is nothing yet."""
    tasks = [asyncio.create_task(build.wait(None)) for build in builds if build]
    await asyncio.sleep(0.5)
    assert not any(task.done() for task in tasks)
    return tasks


@pytest.mark.usefixtures("only_what_is_heard")
class TestHearing:
    async def test_the_end_in_another_process(self, engines: Engines, elsewhere: Engines) -> None:
        work = Work()
        build = await elsewhere.open(work).submit(NUMPY)
        queue = engines.open(Work())
        waiting = await waiting_for(await queue.follow(build.id), await queue.submit(NUMPY))
        work.release.set()
        end = await completed(build)
        for each in waiting:
            assert await asyncio.wait_for(each, 30) == end

    async def test_one_after_another(self, engines: Engines, elsewhere: Engines) -> None:
        """The watcher rests when nobody waits any more, and begins again."""
        queue = engines.open(Work())
        for name in ("a", "b"):
            work = Work()
            build = await elsewhere.open(work).submit(job(name))
            (waiting,) = await waiting_for(await queue.follow(build.id))
            work.release.set()
            assert await asyncio.wait_for(waiting, 30) == await completed(build)

    async def test_what_another_process_leaves(self, engines: Engines, elsewhere: Engines) -> None:
        leaving = elsewhere.open(Work())
        build = await leaving.submit(NUMPY)
        work = Work(released=True)
        (waiting,) = await waiting_for(await engines.open(work).submit(NUMPY))
        await leaving.close()
        assert await asyncio.wait_for(waiting, 30) == CompletedBuild(build.id, "key of numpy")
        assert work.begun == ["numpy"]

    async def test_the_end_in_this_process(
        self, engines: Engines, elsewhere: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # nobody need ask the database's file for that
        monkeypatch.setattr(hints, "TICK_SECONDS", LONG)
        build = await elsewhere.open(Work()).submit(NUMPY)
        queue = engines.open(Work())
        (waiting,) = await waiting_for(await queue.follow(build.id))
        assert await queue.cancel(build.id, "ada canceled it")
        with pytest.raises(BuildCanceled, match="ada canceled it"):
            await asyncio.wait_for(waiting, 30)


@contextmanager
def counted(builds: Builds) -> Iterator[list[str]]:
    """The queries for rows of builds, while the block runs."""
    engine, queries = builds._database.engine.sync_engine, list[str]()

    def count(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("SELECT") and "FROM build" in statement:
            queries.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    try:
        yield queries
    finally:
        event.remove(engine, "before_cursor_execute", count)


class Looking(Builds):
    """The table of builds, which counts how often somebody looks at what others wait for."""

    def __init__(self, builds: Builds) -> None:
        super().__init__(builds._database)
        self.looks = 0

    async def find_all(self, ids: Collection[str]) -> Mapping[str, BuildRow]:
        self.looks += 1
        return await super().find_all(ids)


async def test_many_cost_no_more_queries_than_one(engines: Engines, elsewhere: Engines, builds: Builds) -> None:
    works = {name: Work() for name in ("a", "b")}
    submitted = [await elsewhere.open(work).submit(job(name)) for name, work in works.items()]
    engines.builds = looking = Looking(builds)
    queue = engines.open(Work())
    followed = [await queue.follow(build.id) for build in submitted for _ in range(WAITERS)]
    joined = [await queue.submit(job(name)) for name in works for _ in range(WAITERS)]
    waiting = await waiting_for(*followed, *joined)
    with counted(builds) as queries:
        # one a second, and some because the other processes' signs of life change SQLite's file
        before = looking.looks
        await until(lambda: looking.looks >= before + 3)
        for work in works.values():
            work.release.set()
        ends = {end.id for end in await asyncio.wait_for(asyncio.gather(*waiting), 30) if end}
    assert ends == {build.id for build in submitted}
    assert 3 <= len(queries) <= looking.looks - before + 1, "one has begun before, or each look is one query"


async def test_a_deleted_build(engines: Engines, elsewhere: Engines, builds: Builds) -> None:
    build = await elsewhere.open(Work()).submit(NUMPY)
    followed = await engines.open(Work()).follow(build.id)
    (waiting,) = await waiting_for(followed)
    async with builds._database.writing() as connection:
        await connection.execute(tables.build.delete())
    with pytest.raises(BuildFailed, match="deleted"):
        await asyncio.wait_for(waiting, 30)


class Faulty(Builds):
    """The table of builds, which cannot be asked for several rows as long as there are failures."""

    def __init__(self, builds: Builds) -> None:
        super().__init__(builds._database)
        self.failures: list[Exception] = []

    async def find_all(self, ids: Collection[str]) -> Mapping[str, BuildRow]:
        if self.failures:
            raise self.failures.pop()
        return await super().find_all(ids)

    async def hear(self, tell: object) -> None:
        raise ZeroDivisionError("a defect")


async def test_the_watcher_goes_on_after_failures(
    builds: Builds, elsewhere: Engines, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 0.05)
    faulty, work = Faulty(builds), Work()
    build = await elsewhere.open(work).submit(NUMPY)
    engines.builds = faulty
    followed = await engines.open(Work()).follow(build.id)
    faulty.failures = [StorageUnavailable("the database", "gone"), ZeroDivisionError("a defect")]
    (waiting,) = await waiting_for(followed)
    await until(lambda: not faulty.failures)
    work.release.set()
    assert await asyncio.wait_for(waiting, 30) == await completed(build)


@pytest.mark.services
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_the_watcher_survives_a_restart(
    engines: Engines, elsewhere: Engines, postgres: Postgres, end: str
) -> None:
    """Of the database, which ends all connections: who waits goes on waiting, and who works goes on working."""
    work = Work()
    build = await elsewhere.open(work).submit(NUMPY)
    queue = engines.open(Work())
    waiting = await waiting_for(await queue.follow(build.id), await queue.submit(NUMPY))
    await asyncio.to_thread(getattr(postgres, end))
    # several looks fail
    await asyncio.sleep(2.5 * watcher.LOOK_SECONDS)
    assert not any(task.done() for task in waiting)
    await asyncio.to_thread(postgres.start)
    work.release.set()
    done = await completed(build)
    for each in waiting:
        assert await asyncio.wait_for(each, 30) == done
