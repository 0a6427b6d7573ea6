"""A clock was ahead by a year, what it wrote is here, and it has been mended: nothing stays for a year by that."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Float, Table

from storage.database import account_tables, tables
from storage.database.sql_clock import EXPIRED, OVER, RESET, TOLERANCE, mend
from storage.digest import Digest
from storage.events.outbox import Event, Outbox
from storage.garbage.collection import oldest_build
from storage.garbage.eviction import Bounds, Eviction, survey
from storage.garbage.exclusive import last_collection, only_here
from storage.garbage.rehearsal import rehearse
from storage.quotas.limits import Limits, Quota, Retention
from storage.quotas.room import Room
from storage.repositories.uses import note_blob_use, note_manifest_use
from tests.support.storage.content import NEVER, ROOT, Content

DAY = 86400.0
YEAR = 365 * DAY
POLICY = replace(
    NEVER,
    grace=DAY,
    upload_seconds=DAY,
    untagged_for=DAY,
    image_retention=DAY,
    copy_retention=DAY,
    build_retention=DAY,
    lock_retention=DAY,
    most_builds=0,
    most_resolutions=0,
)

ACCOUNTS = {each for each in vars(account_tables).values() if isinstance(each, Table)}
"""Their times are no concern of the collection: what they end is bounded where it is read, in `auth`."""

TIMES = [
    column
    for table in tables.metadata.sorted_tables
    if table not in ACCOUNTS
    for column in table.columns
    if isinstance(column.type, Float)
]


async def everything_a_year_ahead(content: Content) -> None:
    """All times that are set, except of what is marked as doomed."""
    for column in TIMES:
        await content.change(column.table, column > 0, **{column.name: time.time() + YEAR})


async def age(content: Content, seconds: float) -> None:
    """As if the machine had been off for so long."""
    for column in TIMES:
        await content.change(column.table, column > 0, **{column.name: column - seconds})


async def collect(content: Content, **changed: object) -> dict[str, int]:
    policy = replace(POLICY, **changed)  # type: ignore[arg-type]  # its fields
    told = await rehearse(content.stores.blobs, policy)
    done = await content.collect(policy)
    counts = {name: step.count for name, step in done.steps.items() if step.count}
    assert counts == {name: step.count for name, step in told.steps.items() if step.count}
    return counts


def test_every_time_is_one_of_those_that_are_mended_or_said_to_be_over() -> None:
    assert {str(column) for column in TIMES} == {str(column) for column in (*RESET, *EXPIRED, *OVER)}


async def make_image(content: Content) -> None:
    await content.make_image("image", b"one")


async def make_file(content: Content) -> None:
    await content.stores.blobs.put(Digest.of(b"file"), [b"file"])
    await content.stores.catalog.artifacts.put("file", "lock", {}, Digest.of(b"file"))


async def make_lock(content: Content) -> None:
    await content.stores.catalog.locks.put_solve("r", None, time.time(), lock_key="lock", spec_key="s", document={})
    await make_file(content)
    await content.change(tables.artifact, used=1.0)
    await content.collect(POLICY)
    assert await content.counts() == {"blob": 1}


async def make_lock_never_used(content: Content) -> None:
    await content.stores.catalog.locks.put_solve("r", None, time.time(), lock_key="lock", spec_key="s", document={})


async def push_untagged(content: Content) -> None:
    await content.push_image("team/a", None, b"one")


async def push_loose_blob(content: Content) -> None:
    await content.push_blob("team/a", b"one")


async def mirror(content: Content) -> None:
    digest = await content.push_image("mirror/a", "latest", b"one")
    async with content.stores.database.writing() as connection:
        row = {"repository": "mirror/a", "digest": digest, "pulled": time.time()}
        await connection.execute(tables.mirrored_manifest.insert(), row)


MADE: dict[str, Callable[[Content], Awaitable[None]]] = {
    "image": make_image,
    "file": make_file,
    "lock": make_lock,
    "lock that nothing was made of": make_lock_never_used,
    "manifest without a tag": push_untagged,
    "blob that no manifest names": push_loose_blob,
    "copy": mirror,
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE.keys())
async def test_what_would_be_lost_is_kept_for_its_time_and_no_longer(
    content: Content, make: Callable[[Content], Awaitable[None]]
) -> None:
    await make(content)
    kept = [*tables.metadata.sorted_tables]
    await everything_a_year_ahead(content)
    before = {table.name: await content.count(table) for table in kept}
    assert await collect(content) == {}
    assert {table.name: await content.count(table) for table in kept} == before
    await age(content, DAY / 2)
    assert await collect(content) == {}
    await age(content, DAY)
    assert await collect(content)
    # a blob's time begins when nothing has it any more
    await age(content, 2 * DAY)
    await collect(content)
    assert {name for table in kept if await content.count(table) for name in [table.name]} == set()


async def test_a_session_is_over_at_once(content: Content) -> None:
    upload = await content.uploads.open("team/a", "")
    await content.chunk(upload, b"one")
    await everything_a_year_ahead(content)
    assert await collect(content) == {"uploads": 1, "objects": 1}
    assert content.stores.files() == []


async def test_a_write_that_never_ended_is_over_at_once(content: Content) -> None:
    async with content.stores.blobs.pending() as key:
        content.receive(key, b"one")
        assert await collect(content) == {}
        await everything_a_year_ahead(content)
        assert await content.garbage(POLICY).has_due_objects()
        assert await collect(content) == {"objects": 1}
    assert content.stores.files() == []


async def test_a_failure_is_forgotten_at_once_and_a_silent_build_keeps_nothing(content: Content) -> None:
    catalog, database = content.stores.catalog, content.stores.database
    for name in ("ended", "running"):
        assert await catalog.builds.begin(name, name, {}, "nobody/1/1")
    await catalog.builds.fail("ended", kind="Unsatisfiable", message="no")
    await everything_a_year_ahead(content)
    assert await oldest_build(database)
    assert await collect(content) == {"builds": 1}
    await age(content, 120)
    assert await oldest_build(database) is None
    await age(content, 2 * DAY)
    assert await collect(content) == {"builds": 1}


async def test_what_a_name_was_solved_to_is_solved_again(content: Content) -> None:
    catalog = content.stores.catalog
    await make_lock_never_used(content)
    await everything_a_year_ahead(content)
    await collect(content)
    old = await catalog.locks.find_resolution("r")
    assert old is not None
    assert old.solved < time.time() - YEAR
    await catalog.locks.put_solve("r", None, time.time(), lock_key="new", spec_key="s", document={})
    new = await catalog.locks.find_resolution("r")
    assert new is not None
    assert new.lock_key == "new"


async def test_a_tag_is_kept_for_the_days_of_its_rule_and_no_longer(content: Content) -> None:
    limits = Limits(retention=(Retention.parse("team/* keep-days=1"),))
    await content.push_image("team/a", "latest", b"one")
    await everything_a_year_ahead(content)
    assert await collect(content, limits=limits, untagged_for=0) == {}
    await age(content, 2 * DAY)
    assert await collect(content, limits=limits, untagged_for=0) == {"tags": 1}


async def test_uses_are_noted(content: Content) -> None:
    [manifest, *_] = await content.make_image("image", b"one")
    await content.push_blob("team/a", b"two")
    untagged = await content.push_image("team/a", None, b"three")
    await everything_a_year_ahead(content)
    database = content.stores.database
    await note_manifest_use(database, ROOT, manifest)
    await note_manifest_use(database, "team/a", untagged)
    await note_blob_use(database, "team/a", Digest.of(b"two"))
    soon = time.time() + 60
    row, link = tables.repository_manifest, tables.link
    assert await content.count(tables.image, tables.image.c.used < soon) == 1
    assert await content.count(row, row.c.digest == untagged, row.c.untagged < soon) == 1
    assert await content.count(link, link.c.digest == Digest.of(b"two"), link.c.created < soon) == 1


async def test_an_event_is_told_at_once_and_given_up_in_its_time(content: Content) -> None:
    outbox = Outbox(content.stores.database)
    await outbox.put([Event("there", "1", "{}")])
    await everything_a_year_ahead(content)
    assert await outbox.next("there", 1) == []
    await collect(content)
    assert [event.id for event in await outbox.next("there", 1)] == ["1"]
    await outbox.count_failure("there", "1", time.time() + 4 * 3600)
    await collect(content)
    assert await outbox.next("there", 1) == []
    await age(content, 2 * DAY)
    assert await outbox.give_up(time.time() - DAY, "there") == 1


async def test_bytes_on_their_way_are_not_counted_for_longer(content: Content) -> None:
    limits = Limits((Quota.parse("team/* bytes=10"),))
    room = Room(content.stores.database, content.changes, limits)
    async with content.stores.blobs.pending() as key:
        await room.hold("team/a", key, 10, 60)
        await content.change(tables.pending, held_until=time.time() + YEAR)
        async with content.stores.database.writing() as connection:
            await room.check(connection, "team/a", 10)


async def test_silent_sessions_and_old_blobs_give_way_to_what_a_quota_has_no_room_for(content: Content) -> None:
    limits = Limits((Quota.parse("team/* bytes=1000"),))
    room = Room(content.stores.database, content.changes, limits)
    await content.push_blob("team/a", b"x" * 400)
    await content.chunk(await content.uploads.open("team/a", ""), b"y" * 400)
    await everything_a_year_ahead(content)

    async def attempt() -> None:
        async with content.stores.database.writing() as connection:
            await room.check(connection, "team/a", 900)

    await room.within("team/a", attempt)
    assert [await content.count(table) for table in (tables.upload, tables.link)] == [0, 0]


async def test_a_time_within_what_clocks_may_differ_by_is_let_be(content: Content) -> None:
    await content.make_image("image", b"one")
    then = time.time() + TOLERANCE / 2
    await content.change(tables.image, used=then)
    await mend(content.stores.database, time.time())
    assert [row.used for row in await content.stores.rows(tables.image.select())] == [then]


async def test_more_rows_than_are_mended_at_once(content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.database.sql_clock.BATCH", 3)
    for number in range(10):
        await content.push_blob("team/a", b"%d" % number)
    await everything_a_year_ahead(content)
    await mend(content.stores.database, time.time())
    assert await content.count(tables.link, tables.link.c.created > time.time() + 60) == 0


async def test_cached_files_go_in_their_time(content: Content, tmp_path: Path) -> None:
    eviction = Eviction(content.stores.root, content.stores.blobs, Bounds(archives=1))
    file = content.stores.root / "archives" / "one.conda"
    file.parent.mkdir()
    file.write_bytes(b"x" * 10)
    ahead = time.time() + YEAR
    os.utime(file, (ahead, ahead))
    assert sum(step.count for step in await eviction.evict()) == 0
    status = file.stat()
    assert max(status.st_atime, status.st_mtime) <= time.time()
    past = time.time() - DAY
    os.utime(file, (past, past))
    assert survey(file.parent)[0].used < time.time() - DAY / 2
    assert sum(step.count for step in await eviction.evict()) == 1


def test_the_next_collection_does_not_wait_for_a_year(tmp_path: Path) -> None:
    with only_here(tmp_path):
        pass
    assert last_collection(tmp_path) > time.time() - 60
    ahead = time.time() + YEAR
    os.utime(tmp_path / "collecting", (ahead, ahead))
    assert last_collection(tmp_path) == 0
