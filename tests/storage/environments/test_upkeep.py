"""What is found and forgotten by itself."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.environment_tables import (
    environment,
    environment_build,
    environment_image,
    environment_manifest,
    listed_lock,
    package_locks,
    specification,
)
from storage.environments import upkeep
from storage.environments.vocabulary import EnvironmentBuild
from storage.errors import EnvironmentProblem, EnvironmentUnknown
from storage.events.outbox import Record
from tests.support.storage.environments import Named, lock_of

# on disk


async def test_the_version_changes_with_current_builds_and_deletions(named: Named) -> None:
    seen = [await named.upkeep.find_version()]

    async def changed() -> bool:
        seen.append(await named.upkeep.find_version())
        return seen[-1] not in seen[:-1]

    assert await named.upkeep.find_version() == seen[0]
    first, second, third = [await named.make(each) for each in ("one", "two", "three")]
    assert await changed()
    await named.make("one", name="other")
    assert await changed()
    await named.store.environments.change("team", "science", build_id=first.id)
    assert await changed()
    await named.store.environments.delete_build(second.id)
    assert await changed()
    await named.store.environments.delete("team", "other")
    assert await changed()
    assert (await named.store.builds.find(third.id)).is_finished


async def test_the_version_of_two_environments_that_go_back_to_earlier_builds(named: Named) -> None:
    builds = [await named.make(name=name) for name in ("a", "b", "b", "a", "a")]
    before = await named.upkeep.find_version()
    # the sum of the products of the ids stays
    await named.content.change(environment, environment.c.name == "a", current_build=builds[2].id)
    await named.content.change(environment, environment.c.name == "b", current_build=builds[3].id)
    assert await named.upkeep.find_version() != before


async def test_ids_may_be_large(named: Named) -> None:
    await named.make("one")
    await named.content.change(environment, current_build=2**31 - 1)
    assert len(await named.upkeep.find_version()) > 1


async def test_what_is_wanted_on_disk(named: Named, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "BATCH", 2)
    made = [await named.make(name=name) for name in ("a", "b", "c")]
    await named.ask(name="waiting")
    await named.make(name="gone")
    await named.store.environments.delete("team", "gone")
    first = await named.upkeep.list_wanted()
    rest = await named.upkeep.list_wanted(first[-1].environment)
    assert [(each.name, each.build, each.lock_key) for each in (*first, *rest)] == [
        (each.name, each.id, each.lock_key) for each in made
    ]
    assert await named.upkeep.list_kept(made[0].environment) == [made[0].id]
    assert await named.upkeep.list_deleted() == [("team", "gone")]
    await named.ask(name="gone")
    assert await named.upkeep.list_deleted() == []
    assert [each.name for each in await named.upkeep.list_environments()] == ["a", "b"]
    assert [each.name for each in await named.upkeep.list_environments(made[1].environment)] == ["c", "waiting"]


# old builds


async def ids_expired(named: Named, kept: int | None, before: float | None = None) -> list[int]:
    found = await named.store.environments.find("team", "science")
    return await named.upkeep.list_expired(found.id, kept, before)


async def test_builds_beyond_the_last_that_are_kept(named: Named) -> None:
    builds = [await named.make(str(number)) for number in range(4)]
    failed = await named.fail(await named.ask())
    await named.ask()
    ids = [each.id for each in builds]
    assert await ids_expired(named, None) == []
    assert await ids_expired(named, 5) == []
    assert await ids_expired(named, 4) == []
    assert await ids_expired(named, 2) == ids[:2]
    assert await ids_expired(named, 1) == await ids_expired(named, 0) == ids[:3]
    await named.store.environments.change("team", "science", build_id=ids[0])
    assert await ids_expired(named, 2) == [ids[1]]
    assert failed.id not in await ids_expired(named, 1)


async def test_builds_that_ended_long_ago_and_were_not_pulled(named: Named) -> None:
    builds = [await named.make(str(number)) for number in range(3)]
    failed = await named.fail(await named.ask())
    for build in (*builds, failed):
        await named.change(build, ended=100.0)
    await named.change(builds[0], pulled=300.0)
    assert await ids_expired(named, None, 100.0) == []
    assert await ids_expired(named, None, 200.0) == [builds[1].id, failed.id]
    assert await ids_expired(named, None, 301.0) == [builds[0].id, builds[1].id, failed.id]
    assert await ids_expired(named, 1, 200.0) == [builds[0].id, builds[1].id, failed.id]


# forgetting


async def counts(named: Named) -> dict[str, int]:
    these = (
        environment, environment_build, environment_image, environment_manifest, listed_lock, package_locks,
        specification,
    )  # fmt: skip
    return {each.name: await named.content.count(each) for each in these}


async def test_nothing_is_left_of_a_forgotten_environment(named: Named) -> None:
    builds = [await named.make("one", "python"), await named.make("two", "python", "numpy")]
    other = await named.make("one", "python", name="other")
    await named.store.environments.delete("team", "science")
    assert await named.upkeep.list_forgotten(0.0) == []
    assert await named.upkeep.list_forgotten(time.time() + 1) == [each.id for each in builds]
    # one that is there is not forgotten
    await named.upkeep.forget([each.id for each in (*builds, other)])
    assert await counts(named) == {
        "environment": 1,
        "environment_build": 1,
        "environment_image": 1,
        "environment_manifest": 3,
        "listed_lock": 1,
        "package_locks": 1,
        "specification": 1,
    }
    await named.store.environments.delete("team", "other")
    await named.upkeep.forget([other.id])
    assert set((await counts(named)).values()) == {0}


async def test_an_environment_stays_until_its_last_build_is_forgotten(named: Named) -> None:
    builds = [await named.make("one"), await named.make("two")]
    await named.store.environments.delete("team", "science")
    await named.upkeep.forget([builds[0].id])
    assert (await counts(named))["environment"] == 1
    await named.upkeep.forget([builds[1].id])
    assert (await counts(named))["environment"] == 0


async def test_what_somebody_just_needs_again_is_not_forgotten(named: Named) -> None:
    """The same specification, image and lock, of a build that is asked for while the last other one is forgotten."""
    for _ in range(6):
        old = await named.make("one", "python", name="old")
        await named.store.environments.delete("team", "old")
        new, _ = await asyncio.gather(named.make("one", "python", name="new"), named.upkeep.forget([old.id]))
        assert await named.store.builds.find_image("one") is not None
        assert (await named.store.builds.find_specification(new.specification)).name == "science"
        query = select(func.count()).where(listed_lock.c.lock_key == lock_of("one"))
        assert (await named.content.stores.rows(query))[0][0] == 1
        await named.store.environments.delete("team", "new")
        await named.upkeep.forget([new.id])
        assert set((await counts(named)).values()) == {0}


# looking again


async def test_environments_that_are_due(named: Named) -> None:
    done = await named.make("one", name="a")
    await named.ask(name="b")
    found = {each.name: each.id for each in await named.upkeep.list_environments()}
    now = time.time()

    async def due(before: float) -> list[str]:
        return [each.name for each in await named.upkeep.list_due(dict.fromkeys(found.values(), before))]

    assert await due(0.0) == []
    assert await named.upkeep.list_due({}) == []
    # something is built for the other one
    assert await due(now + 1) == ["a"]
    await named.content.change(environment, created=now - 100)
    assert await due(now - 50) == ["a"]
    assert not await named.upkeep.take_due(found["a"], now - 200)
    assert not await named.upkeep.take_due(found["b"], now + 1)
    assert [await named.upkeep.take_due(found["a"], now - 50) for _ in range(2)] == [True, False]
    assert await due(now - 50) == []
    await named.store.environments.delete("team", "a")
    assert await due(now + 100) == []
    assert done.environment == found["a"]


# alarms


async def reasons(named: Named) -> list[tuple[int, str]]:
    return [(each.build.id, each.reason) for each in await named.upkeep.list_alarms()]


async def test_alarms_are_about_current_builds(named: Named) -> None:
    first, second = await named.make("one"), await named.make("two")
    assert await named.upkeep.set_alarm(second.id, "It has numpy.")
    assert not await named.upkeep.set_alarm(second.id, "It has numpy.")
    assert await reasons(named) == [(second.id, "It has numpy.")]
    assert await named.upkeep.set_alarm(second.id, "It has scipy.")
    assert await reasons(named) == [(second.id, "It has scipy.")]
    assert await named.upkeep.set_alarm(first.id, "It is old.")
    await named.store.environments.change("team", "science", build_id=first.id)
    assert await reasons(named) == [(first.id, "It is old.")]
    assert await named.upkeep.set_alarm(first.id, None)
    assert not await named.upkeep.set_alarm(first.id, None)
    assert await reasons(named) == []


async def test_what_a_new_alarm_adds_is_added_once(named: Named) -> None:
    """Whoever finds it at the same time, and however often: for each reason, and again after there was none."""
    build = await named.make("one")
    told: list[str] = []

    def telling(reason: str) -> Record[None]:
        async def record(_connection: AsyncConnection, _: None) -> None:
            told.append(reason)

        return record

    async def find(reason: str) -> None:
        await asyncio.gather(*(named.upkeep.set_alarm(build.id, reason, telling(reason)) for _ in range(4)))

    for reason in ("It has numpy.", "It has numpy.", "It has scipy."):
        await find(reason)
    await named.upkeep.set_alarm(build.id, None)
    await find("It has scipy.")
    assert told == ["It has numpy.", "It has scipy.", "It has scipy."]

    async def fail(_connection: AsyncConnection, _: None) -> None:
        raise EnvironmentUnknown("team", "no")

    with pytest.raises(EnvironmentUnknown):
        await named.upkeep.set_alarm(build.id, "It is old.", fail)
    assert await reasons(named) == [(build.id, "It has scipy.")]


async def test_alarms_of_what_is_deleted_go(named: Named) -> None:
    build = await named.make("one")
    await named.upkeep.set_alarm(build.id, "It has numpy.")
    await named.store.environments.delete("team", "science")
    assert await reasons(named) == []
    await named.upkeep.forget([build.id])
    # it was found before it was forgotten
    assert not await named.upkeep.set_alarm(build.id, "It has numpy.")


async def test_current_builds_by_their_ids(named: Named, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "BATCH", 2)
    made: list[EnvironmentBuild] = [await named.make(name=name) for name in ("a", "a", "b", "c")]
    await named.ask(name="d")
    with contextlib.suppress(EnvironmentProblem):
        await named.store.environments.delete("team", "nothing")
    first = await named.upkeep.list_current()
    assert [each.id for each in first] == [made[1].id, made[2].id]
    assert [each.id for each in await named.upkeep.list_current(first[-1].id)] == [made[3].id]
