"""Builds' promises: one unfinished build a key, whose owner is one, and whose end is remembered whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from storage.catalog.builds import Builds, Wanted
from tests.support.storage.stores import count_builds, open_stores


@pytest.fixture
async def builds(tmp_path: Path, database_url: str) -> AsyncIterator[Builds]:
    async with open_stores(tmp_path, url=database_url) as stores:
        yield stores.catalog.builds


async def test_one_unfinished_build_of_a_key(builds: Builds) -> None:
    rows = await asyncio.gather(*(builds.begin(f"id{number}", "key", {"n": number}, "me/1/2") for number in range(20)))
    begun = [row for row in rows if row]
    assert len(begun) == 1
    await builds.complete(begun[0].id, "made")
    assert await builds.begin("again", "key", {}, "me/1/2")
    assert await count_builds(builds, "key") == 2


async def test_a_row_that_the_database_refuses_is_not_taken_for_one_that_is_there(builds: Builds) -> None:
    """Whoever waited for that one to end would wait for ever."""
    with pytest.raises(IntegrityError):
        await builds.begin("id", None, {}, "me/1/2")  # type: ignore[arg-type]  # what no row may have


async def test_a_failed_build_is_remembered_whole(builds: Builds) -> None:
    await builds.begin("id", "key", {"a": [1]}, "me/1/2")
    await builds.set_building("id")
    await builds.fail("id", kind="Unsatisfiable", message="because", transient=False)
    row = await builds.last("key")
    assert row is not None
    assert (row.status, row.error_kind, row.error_message, row.error_transient, row.request) == (
        "FAILED",
        "Unsatisfiable",
        "because",
        False,
        {"a": [1]},
    )
    assert await builds.list_unfinished() == []


async def test_only_one_takes_over(builds: Builds) -> None:
    await builds.begin("id", "key", {}, "dead/1/2")
    await builds.set_building("id")
    row = await builds.find("id")
    assert row is not None
    taken = await asyncio.gather(*(builds.take(row, f"heir/{number}/0") for number in range(5)))
    assert sorted(taken) == [False, False, False, False, True]
    (left,) = await builds.list_unfinished()
    assert (left.attempts, left.status) == (2, "QUEUED")


async def test_a_build_that_its_owner_beats_for_cannot_be_taken(builds: Builds) -> None:
    row = await builds.begin("id", "key", {}, "me/1/2")
    assert row is not None
    await builds.beat("me/1/2", ["id"])
    assert not await builds.take(row, "heir/1/2")


async def test_the_first_end_counts(builds: Builds) -> None:
    """Of who completes a build and who cancels it at the same time, one is told that it came too late."""
    told: list[str] = []

    async def record(_connection: object, _none: None) -> None:
        told.append("completed")

    await builds.begin("id", "key", {}, "me")
    assert await builds.fail("id", kind="BuildCanceled", message="no", canceled=True)
    assert not await builds.complete("id", "made", record)
    assert not await builds.fail("id", kind="Unsatisfiable", message="no")
    row = await builds.find("id")
    assert row is not None
    assert (row.status, row.made, row.error_kind) == ("CANCELED", None, "BuildCanceled")
    assert told == []
    await builds.begin("other", "key", {}, "me")
    assert await builds.complete("other", "made", record)
    assert told == ["completed"]


async def test_a_beat_tells_which_are_still_ours(builds: Builds) -> None:
    for name in ("ours", "ended", "taken", "elsewhere"):
        await builds.begin(name, name, {}, "them" if name == "elsewhere" else "us", priority=1)
    await builds.complete("ended", "made")
    row = await builds.find("taken")
    assert row is not None
    assert await builds.take(row, "them")
    assert await builds.set_priority("ours", -1)
    assert not await builds.set_priority("ended", -1)
    assert await builds.beat("us", ["ours", "ended", "taken", "elsewhere", "unknown"]) == {"ours": Wanted(-1, None)}


async def test_what_its_owner_let_go_is_begun_again_without_blame(builds: Builds) -> None:
    await builds.begin("id", "key", {}, "us")
    await builds.let_go("us")
    row = await builds.find("id")
    assert row is not None
    assert (row.owner, row.ended) == ("", None)
    assert await builds.take(row, "heir")
    taken = await builds.find("id")
    assert taken is not None
    assert (taken.owner, taken.attempts) == ("heir", 1)
