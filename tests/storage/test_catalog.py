"""The catalog's promises: one unfinished build a key, an image never without its manifests, later solves win."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from storage.catalog import Catalog, StoredManifest
from storage.database import NEWEST, migrate, migrations, sqlite_url


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    url = sqlite_url(tmp_path / "condery.sqlite")
    migrate(url)
    migrate(url)
    catalog = Catalog.open(url)
    yield catalog
    await catalog.close()


async def test_one_unfinished_build_of_a_key(catalog: Catalog) -> None:
    rows = await asyncio.gather(
        *(catalog.begin_build(f"id{number}", "key", {"n": number}, "me/1/2") for number in range(20))
    )
    begun = [row for row in rows if row]
    assert len(begun) == 1
    await catalog.end_build(begun[0].id)
    assert await catalog.begin_build("again", "key", {}, "me/1/2")
    assert await catalog.count_builds("key") == 2


async def test_a_failed_build_is_remembered_whole(catalog: Catalog) -> None:
    await catalog.begin_build("id", "key", {"a": [1]}, "me/1/2")
    await catalog.set_building("id")
    await catalog.end_build("id", kind="Unsatisfiable", message="because", transient=False)
    row = await catalog.last_build("key")
    assert row is not None
    assert (row.status, row.error_kind, row.error_message, row.error_transient, row.request) == (
        "FAILED",
        "Unsatisfiable",
        "because",
        False,
        {"a": [1]},
    )
    assert await catalog.unfinished_builds() == []


async def test_only_one_takes_over(catalog: Catalog) -> None:
    row = await catalog.begin_build("id", "key", {}, "dead/1/2")
    assert row is not None
    taken = await asyncio.gather(*(catalog.take_build(row, f"heir/{number}/0") for number in range(5)))
    assert sorted(taken) == [False, False, False, False, True]
    (left,) = await catalog.unfinished_builds()
    assert left.attempts == 2


async def test_an_image_comes_with_its_manifests(catalog: Catalog) -> None:
    manifest = StoredManifest.of("application/vnd.oci.image.manifest.v1+json", b"{}")
    await catalog.put_image("image", "lock", {"a": 1}, [manifest])
    await catalog.put_image("image", "lock", {"a": 2}, [manifest])
    assert await catalog.image("image") == {"a": 2}
    assert await catalog.image_of_lock("lock") == {"a": 2}
    assert await catalog.manifest(manifest.digest) == manifest
    assert await catalog.image("other") is None


async def test_a_later_solve_replaces_an_earlier_one_only(catalog: Catalog) -> None:
    await catalog.put_resolution("request", "spec", None, "lock2", 20.0)
    await catalog.put_resolution("request", "spec", None, "lock1", 10.0)
    resolution = await catalog.resolution("request")
    assert resolution is not None
    assert resolution.lock_key == "lock2"
    await catalog.put_resolution("request", "spec", None, "lock3", 30.0)
    resolution = await catalog.resolution("request")
    assert resolution is not None
    assert resolution.lock_key == "lock3"


async def test_locks_are_found_by_the_beginning_of_their_key(catalog: Catalog) -> None:
    for key in ("ab" * 32, "ab" * 31 + "ac", "cd" * 32):
        await catalog.put_lock(key, "spec" + key[:2], {"key": key})
    assert [key for key, _ in await catalog.locks("ab" * 31)] == ["ab" * 32, "ab" * 31 + "ac"]
    assert await catalog.locks("cd" * 6) == [("cd" * 32, "speccd")]
    assert await catalog.locks("ff" * 6) == []
    assert await catalog.lock("cd" * 32) == {"key": "cd" * 32}
    assert await catalog.locks_of_spec("specab") == ["ab" * 32, "ab" * 31 + "ac"]
    await catalog.put_resolution("dated", "specab", "2026-01-31", "ab" * 32, 1.0)
    assert await catalog.days_of_spec("specab") == ["2026-01-31"]


def test_the_newest_revision_is_the_last_script() -> None:
    assert ScriptDirectory.from_config(migrations()).get_current_head() == NEWEST
