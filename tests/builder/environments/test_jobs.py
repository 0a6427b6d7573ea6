"""What happens to environments by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from builder.environments import jobs
from builder.environments.jobs import EnvironmentJobs, take_turns
from builder.environments.life import NamedEnvironments
from builder.locks.lock import Lock
from builder.policy.settings import PolicySettings
from builder.service import BuilderService
from storage.clock import SKEW_SECONDS
from storage.database import tables
from storage.database.engine import Database
from storage.database.environment_tables import environment, environment_build
from storage.database.leases import Leases
from storage.environments.upkeep import EnvironmentUpkeep
from storage.environments.vocabulary import BuildStatus, Cause, Environment, EnvironmentBuild
from storage.errors import EnvironmentBuildUnknown
from tests.support.builder.named import end_of, write_down
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service


class Place:
    def __init__(self, service: BuilderService, channel: Path) -> None:
        assert service.environments is not None
        self.service, self.channel = service, channel
        self.named: NamedEnvironments = service.environments
        self.database: Database = service.environments.store.logs._database
        self.upkeep = EnvironmentUpkeep(self.database)
        self.jobs = EnvironmentJobs(self.named, self.upkeep, Leases(self.database))

    async def make(self, *specs: str) -> EnvironmentBuild:
        build = await self.named.create("team", "science", write_down(self.service, *specs), by="ann")
        return await end_of(self.named, build)

    async def come_later(self) -> None:
        """As if it were years later: every environment is due, and no solve is remembered."""
        async with self.database.writing() as connection:
            await connection.execute(update(environment).values(resolved=None, created=1.0))
            await connection.exec_driver_sql("UPDATE resolution SET solved = 1.0")

    async def find(self) -> Environment:
        return await self.named.store.environments.find("team", "science")

    async def set_rules(self, rules: str) -> None:
        async with self.database.writing() as connection:
            await connection.exec_driver_sql(f"UPDATE namespace SET policy = '{rules}'")

    async def exists(self, build: EnvironmentBuild) -> bool:
        try:
            await self.named.store.builds.find(build.id)
        except EnvironmentBuildUnknown:
            return False
        return True


@contextlib.asynccontextmanager
async def placed(tmp_path: Path, *, rules: PolicySettings | None = None) -> AsyncIterator[Place]:
    channel = await make_channel(tmp_path / "channel", [Package("one"), Package("two")])
    async with open_service(tmp_path / "data", channel, rules=rules) as service:
        yield Place(service, tmp_path / "channel")


async def test_builds_beyond_those_that_are_kept_go_but_never_the_current_one(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        builds = [await place.make(name) for name in ("one", "two", "one")]
        await place.named.store.environments.change("team", "science", build_id=builds[0].id)
        assert await place.jobs.retire() == 0
        await place.named.store.settings.change({"kept_builds": 1}, "team")
        assert await place.jobs.retire() == 1
        assert [await place.exists(each) for each in builds] == [True, False, True]


async def test_builds_go_after_their_days_unless_they_are_pulled(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        builds = [await place.make(name) for name in ("one", "two", "one")]
        async with place.database.writing() as connection:
            long_ago = time.time() - 3 * 86400
            await connection.execute(update(environment_build).values(ended=long_ago))
        await place.named.store.builds.note_pull(builds[1])
        await place.named.store.settings.change({"kept_days": 2})
        assert await place.jobs.retire() == 1
        assert [await place.exists(each) for each in builds] == [False, True, True]


async def test_what_is_left_of_deleted_builds_goes_later(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        first, second = await place.make("one"), await place.make("two")
        await place.named.store.environments.delete_build(first.id)
        assert await place.jobs.forget() == 0
        place.jobs.kept = -1
        assert await place.jobs.forget() == 1
        assert await place.exists(second)
        await place.named.delete("team", "science", by="ann")
        assert await place.jobs.forget() == 1
        async with place.database.reading() as connection:
            for table in (environment, environment_build):
                assert (await connection.execute(table.select())).first() is None


async def test_an_environment_that_asks_for_it_is_built_when_its_lock_would_be_another(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        await place.named.store.settings.change({"solve_every_hours": 1}, "team", "science")
        first = await place.make("one")
        assert await place.jobs.solve_again() == 0
        await place.come_later()
        assert await place.jobs.solve_again() == 0
        await make_channel(place.channel, [Package("one", version="99"), Package("two")])
        await place.come_later()
        async with asyncio.timeout(60):
            while await place.jobs.solve_again() == 0:
                await place.come_later()
        found = await place.named.store.environments.find("team", "science")
        assert found.last_build is not None
        again = await end_of(place.named, await place.named.store.builds.find(found.last_build))
        assert (again.status, again.cause, again.is_current) == (BuildStatus.COMPLETED, Cause.SCHEDULE, True)
        assert again.lock_key != first.lock_key


async def test_two_servers_do_not_both_build_what_is_due(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        await place.named.store.settings.change({"solve_every_hours": 1}, "team", "science")
        first = await place.make("one")
        await make_channel(place.channel, [Package("one", version="99"), Package("two")])
        others = EnvironmentJobs(place.named, place.upkeep, Leases(place.database))
        async with asyncio.timeout(60):
            while (await place.find()).last_build == first.id:
                await place.come_later()
                count = sum(await asyncio.gather(place.jobs.solve_again(), others.solve_again()))
        assert count == 1
        found = await place.find()
        async with place.database.reading() as connection:
            ids = (await connection.execute(select(environment_build.c.id))).scalars().all()
        assert sorted(ids) == [first.id, found.last_build]


async def test_what_there_is_no_time_for_is_solved_after_the_other_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SOLVING_SECONDS", -1.0)
    async with placed(tmp_path) as place:
        await place.named.store.settings.change({"solve_every_hours": 1})
        for namespace, name in (("big", "a"), ("big", "b"), ("small", "c")):
            await end_of(
                place.named, await place.named.create(namespace, name, write_down(place.service, "one"), by="ann")
            )
        await place.come_later()
        solved = []
        for _ in range(4):
            await place.jobs.solve_again()
            async with place.database.reading() as connection:
                query = select(environment.c.name).where(environment.c.resolved.is_not(None))
                solved.append(set((await connection.execute(query)).scalars()))
        assert [len(each) for each in solved] == [1, 2, 3, 3]


def test_namespaces_take_turns() -> None:
    def make(name: str) -> Environment:
        namespace = name[:-1]
        return Environment(
            id=1, namespace=namespace, namespace_id=1, name=name, repository=f"{namespace}/{name}", description="",
            current_build=None, last_build=None, created=0.0, created_by="ann", resolved=None, resolve_error=None,
        )  # fmt: skip

    due = [make(name) for name in ("big1", "big2", "big3", "small1", "other1", "other2")]
    assert [each.name for each in take_turns(due)] == ["big1", "small1", "other1", "big2", "other2", "big3"]


async def test_jobs_end_when_another_process_has_their_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LEASE_SECONDS", 0.3)
    async with placed(tmp_path) as place:
        stopped = asyncio.Event()

        async def run_all() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        monkeypatch.setattr(place.jobs, "run_all", run_all)
        assert await place.jobs.leases.take(jobs.LEASE, place.jobs._owner, 0.3)
        working = asyncio.create_task(place.jobs._run_while_ours())
        ends = set[float]()
        async with asyncio.timeout(60):
            while len(ends) < 3:
                async with place.database.reading() as connection:
                    ends.add((await connection.execute(select(tables.lease.c.until))).scalar_one())
                await asyncio.sleep(0.02)
            assert not working.done()
            async with place.database.writing() as connection:
                await connection.execute(update(tables.lease).values(owner="another", until=time.time() + SKEW_SECONDS))
            await working
        assert stopped.is_set()


def date_package(channel: Path, version: str, **dates: int) -> None:
    """Say of each `one` of this version when it was built, and when the channel indexed it (CEP 47)."""
    for index in channel.glob("*/repodata.json"):
        document = json.loads(index.read_text())
        for found in document["packages.conda"].values():
            if (found["name"], found["version"]) == ("one", version):
                found |= dates
        index.write_text(json.dumps(document))
        # other forms of the index, which would say something else
        for other in index.parent.glob("repodata*.zst"):
            other.unlink()


async def test_a_scheduled_solve_waits_until_the_channel_has_had_a_package_for_the_cooldown(tmp_path: Path) -> None:
    """By the channel's clock, where it has one: whoever builds a package may write any date into it."""
    built, young, old = (int(time.time() - days * 86_400) * 1000 for days in (1000, 1, 8))
    async with placed(tmp_path) as place:
        await place.named.store.settings.change({"solve_every_hours": 1, "cooldown_days": 7}, "team", "science")
        date_package(place.channel, "1.0", timestamp=built, indexed_timestamp=old)
        first = await place.make("one")
        assert first.status == BuildStatus.COMPLETED
        await make_channel(place.channel, [Package("one"), Package("one", version="99"), Package("two")])
        date_package(place.channel, "1.0", timestamp=built, indexed_timestamp=old)
        date_package(place.channel, "99", timestamp=built, indexed_timestamp=young)
        for _ in range(2):
            await place.come_later()
            assert await place.jobs.solve_again() == 0
        assert (await place.find()).last_build == first.id
        date_package(place.channel, "99", indexed_timestamp=old)
        async with asyncio.timeout(60):
            while await place.jobs.solve_again() == 0:
                await place.come_later()
        last = (await place.find()).last_build
        assert last is not None
        again = await end_of(place.named, await place.named.store.builds.find(last))
        assert again.lock_key not in (None, first.lock_key)
        lock = await place.service.builder.catalog.locks.find(again.lock_key or "")
        assert {each.version for group in Lock.from_json(lock or {}).packages.values() for each in group} == {"99"}


async def test_a_scheduled_solve_that_fails_says_why_and_waits_for_its_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with placed(tmp_path) as place:
        await place.named.store.settings.change({"solve_every_hours": 1}, "team", "science")
        build = await place.make("one")
        solved: list[int] = []

        async def has_news(named: NamedEnvironments, found: EnvironmentBuild) -> bool:
            solved.append(found.id)
            return await ask(named, found)

        ask = NamedEnvironments.has_news
        monkeypatch.setattr(NamedEnvironments, "has_news", has_news)
        await place.set_rules('{"denied_packages": ["one"]}')
        await place.come_later()
        for _ in range(3):
            assert await place.jobs.solve_again() == 0
        assert solved == [build.id]
        failed = await place.find()
        assert failed.resolved is not None
        assert failed.resolve_error is not None
        assert "one" in failed.resolve_error
        assert (failed.current_build, failed.last_build) == (build.id, build.id)
        await place.set_rules("{}")
        await place.come_later()
        assert await place.jobs.solve_again() == 0
        assert (len(solved), (await place.find()).resolve_error) == (2, None)
        await place.upkeep.note_resolve_error(failed.id, "old news")
        await place.make("two")
        assert (await place.find()).resolve_error is None


async def test_current_builds_that_hold_what_is_denied_raise_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with placed(tmp_path) as place:
        build = await place.make("one")
        assert await place.jobs.find_alarms() == 0
        await place.set_rules('{"denied_packages": ["one"]}')
        assert await place.jobs.find_alarms() == 1
        [alarm] = await place.upkeep.list_alarms()
        assert (alarm.build.id, "one" in alarm.reason) == (build.id, True)
        assert await place.jobs.find_alarms() == 0
        await place.set_rules("{}")
        assert await place.jobs.find_alarms() == 1
        assert await place.upkeep.list_alarms() == []
