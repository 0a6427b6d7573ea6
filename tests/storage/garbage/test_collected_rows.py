"""Rows that grow with what is asked for: builds, locks, and what names were solved to."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from storage.database import tables
from storage.digest import Digest
from storage.garbage.rehearsal import rehearse
from storage.garbage.rules import GarbagePolicy
from storage.repositories.uses import note_manifest_use
from tests.support.storage.content import NEVER, ROOT, Content

DAY = 86400.0
KEEPING = replace(NEVER, build_retention=DAY, most_builds=0, most_resolutions=0)


async def solve(content: Content, *keys: str, size: int = 1) -> None:
    for key in keys:
        await content.stores.catalog.locks.put_solve(
            f"request {key}", None, time.time(), lock_key=key, spec_key=f"spec {key}", document={"x": "x" * size}
        )


async def make(content: Content, key: str) -> None:
    """An image of a lock."""
    digest = Digest.of(key.encode())
    await content.stores.blobs.put(digest, [key.encode()])
    await content.stores.catalog.artifacts.put(f"file of {key}", key, {}, digest)


async def collect(content: Content, policy: GarbagePolicy) -> dict[str, int]:
    """How many were deleted in the steps that deleted any; a rehearsal says the same."""
    told = await rehearse(content.stores.blobs, policy)
    done = await content.collect(policy)
    assert told.to_json()["steps"] == done.to_json()["steps"]
    return {name: step.count for name, step in done.steps.items() if step.count}


async def locks(content: Content) -> set[str]:
    return {row.key for row in await content.stores.rows(tables.lock.select())}


async def build(content: Content, name: str, *, ended: float | None, heartbeat: float | None = None) -> None:
    catalog = content.stores.catalog
    assert await catalog.builds.begin(name, name, {}, "nobody/1/1")
    if ended is not None:
        await catalog.builds.fail(name, kind="Unsatisfiable", message="no")
        await content.change(tables.build, tables.build.c.id == name, ended=ended)
    if heartbeat is not None:
        await content.change(tables.build, tables.build.c.id == name, heartbeat=heartbeat)


async def builds(content: Content) -> set[str]:
    return {row.id for row in await content.stores.rows(tables.build.select())}


async def test_builds_go_when_they_ended_long_ago_and_unfinished_ones_when_nobody_is_at_them(content: Content) -> None:
    now = time.time()
    await build(content, "young", ended=now - DAY / 2)
    await build(content, "old", ended=now - 2 * DAY)
    await build(content, "running", ended=None)
    await build(content, "dead", ended=None, heartbeat=now - 2 * DAY)
    assert await collect(content, KEEPING) == {"builds": 2}
    assert await builds(content) == {"young", "running"}


async def test_of_too_many_builds_the_oldest_go(content: Content) -> None:
    now = time.time()
    for number in range(30):
        await build(content, f"{number:02}", ended=now - number)
    await build(content, "running", ended=None)
    assert await collect(content, replace(KEEPING, most_builds=10)) == {"builds": 20}
    assert await builds(content) == {f"{number:02}" for number in range(10)} | {"running"}


async def test_a_lock_that_nothing_was_made_of_goes_and_with_it_what_was_solved_to_it(content: Content) -> None:
    await solve(content, "made", "failed", "young")
    await make(content, "made")
    await content.change(tables.lock, tables.lock.c.key != "young", created=1.0)
    assert await collect(content, KEEPING) == {"locks": 1, "resolutions": 1}
    assert await locks(content) == {"made", "young"}
    assert await content.stores.catalog.locks.find_resolution("request failed") is None


async def test_a_lock_stays_when_what_was_made_of_it_is_gone(content: Content) -> None:
    """So that it is made again, the same, in ten years; unless a setting says otherwise."""
    await solve(content, "made")
    await make(content, "made")
    for table, columns in ((tables.lock, ("created", "used")), (tables.artifact, ("used",))):
        await content.change(table, **dict.fromkeys(columns, 1.0))
    policy = replace(KEEPING, image_retention=DAY)
    assert (await collect(content, policy))["files"] == 1
    assert await locks(content) == {"made"}
    assert await collect(content, replace(policy, lock_retention=DAY)) == {"locks": 1, "resolutions": 1}


async def test_a_lock_stays_while_something_of_it_is_there_or_was_just_asked_for(content: Content) -> None:
    await solve(content, "there", "asked", "pulled", "gone")
    await content.change(tables.lock, created=1.0, used=1.0)
    await make(content, "there")
    await make(content, "asked")
    [_, manifest, _] = await content.make_image("i", b"one")
    await content.change(tables.image, lock_key="pulled", used=1.0)
    await content.change(tables.artifact, used=1.0)
    await content.change(tables.lock, used=1.0)
    await content.stores.catalog.artifacts.note_use("file of asked")
    await note_manifest_use(content.stores.database, ROOT, manifest)
    async with content.stores.database.writing() as connection:
        gone = tables.artifact.c.key != "file of there"
        await connection.execute(tables.artifact.delete().where(gone))
        await connection.execute(tables.image.delete())
    assert await collect(content, replace(KEEPING, lock_retention=DAY, image_retention=0)) == {
        "locks": 1,
        "resolutions": 1,
    }
    assert await locks(content) == {"there", "asked", "pulled"}


async def test_of_too_many_locks_those_go_first_that_nobody_used_or_named(content: Content) -> None:
    """Asking for 100,000 names fills the room for locks, and no more: nor does it take what somebody relies on."""
    names = [f"flood {number:03}" for number in range(40)]
    await solve(content, *names, "relied on", "there", size=990)
    await make(content, "there")
    await content.stores.catalog.locks.pin("relied on")
    for number, name in enumerate(names):
        await content.change(tables.lock, tables.lock.c.key == name, created=10.0 + number)
    old: dict[str, Any] = {"created": 1.0, "used": 1.0}
    await content.change(tables.lock, tables.lock.c.key.in_(["relied on", "there"]), **old)
    policy = replace(KEEPING, build_retention=10**10, locks_limit=10_000)
    assert await collect(content, policy) == {"locks": 31, "resolutions": 31}
    assert await locks(content) == {"relied on", "there", *names[-9:]}
    assert await collect(content, policy) == {}


async def test_of_too_many_locks_what_was_just_solved_stays(content: Content) -> None:
    await solve(content, "one", "two", size=990)
    assert await collect(content, replace(KEEPING, locks_limit=10)) == {}


async def test_what_names_were_solved_to_is_bounded(content: Content) -> None:
    """One lock may be what thousands of days were solved to."""
    for number in range(30):
        await content.stores.catalog.locks.put_solve(
            f"{number:02}", "2020-01-01", 10.0 + number, lock_key="one", spec_key="one", document={}
        )
    assert await collect(content, replace(KEEPING, most_resolutions=10)) == {"resolutions": 20}
    assert {row.request_key for row in await content.stores.rows(tables.resolution.select())} == {
        f"{number:02}" for number in range(20, 30)
    }
