"""Caches stay within their bounds, oldest first, and what layers need or builds may be using stays."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.joins import Join, Layer
from storage.blobs.store import BlobStore
from storage.clock import IN_USE_SECONDS
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Digest
from storage.disk.files import mark_used
from storage.garbage.eviction import Bounds, Entry, Eviction, find_excess, survey
from tests.support.storage.stores import Stores, open_stores, put_layers

OLD = time.time() - 10 * IN_USE_SECONDS


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    async with open_stores(tmp_path) as opened:
        yield opened


def put(path: Path, size: int, used: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (used, used))
    return path


async def evicted(stores: Stores, bounds: Bounds, *, dry_run: bool = False) -> dict[str, tuple[int, int]]:
    steps = await Eviction(stores.root, stores.blobs, bounds).evict(dry_run=dry_run)
    return {step.name: (step.count, step.bytes) for step in steps}


async def test_least_recently_used_archives_go_first(stores: Stores) -> None:
    paths = [put(stores.root / "archives" / f"{number}.conda", 100, OLD + number) for number in range(5)]
    assert await evicted(stores, Bounds(archives=250), dry_run=True) == {
        "cached archives": (3, 300),
        "cached repodata": (0, 0),
        "cached pypi": (0, 0),
        "cached fragments": (0, 0),
    }
    assert all(path.exists() for path in paths)
    assert (await evicted(stores, Bounds(archives=250)))["cached archives"] == (3, 300)
    assert [path.exists() for path in paths] == [False, False, False, True, True]
    assert (await evicted(stores, Bounds(archives=250)))["cached archives"] == (0, 0)


async def test_what_may_be_in_use_stays_whatever_the_bound(stores: Stores) -> None:
    path = put(stores.root / "archives" / "new.conda", 1000, time.time())
    assert (await evicted(stores, Bounds(archives=1)))["cached archives"] == (0, 0)
    assert path.exists()


async def test_what_a_running_build_may_use_stays(stores: Stores) -> None:
    before = put(stores.root / "archives" / "before.conda", 1000, OLD - 10)
    since = put(stores.root / "archives" / "since.conda", 1000, OLD + 10)
    await stores.catalog.builds.begin("b", "key", {}, "me/1/2")
    async with stores.database.writing() as connection:
        await connection.execute(tables.build.update().values(created=OLD))
    assert (await evicted(stores, Bounds(archives=1)))["cached archives"] == (1, 1000)
    assert (before.exists(), since.exists()) == (False, True)


async def test_what_was_read_from_archives_counts_with_them(stores: Stores) -> None:
    put(stores.root / "archives" / "a.conda", 100, OLD + 1)
    contents = put(stores.root / "contents" / "ab" / "a.json", 100, OLD)
    assert (await evicted(stores, Bounds(archives=150)))["cached archives"] == (1, 100)
    assert not contents.exists()


async def test_a_use_is_noted_without_changing_what_else_is_known(stores: Stores) -> None:
    used, other = (put(stores.root / "archives" / name, 100, OLD) for name in ("a.conda", "b.conda"))
    mark_used(used)
    mark_used(stores.root / "archives" / "missing")
    assert used.stat().st_mtime == pytest.approx(OLD)
    await evicted(stores, Bounds(archives=100))
    assert (used.exists(), other.exists()) == (True, False)


async def test_no_bound_is_no_bound(stores: Stores) -> None:
    path = put(stores.root / "archives" / "old.conda", 1000, OLD)
    assert (await evicted(stores, Bounds()))["cached archives"] == (0, 0)
    assert path.exists()


async def test_fragments_that_layers_need_stay_and_do_not_count(stores: Stores) -> None:
    needed, free, newer = f"{1:064x}", f"{2:064x}", f"{3:064x}"
    for key in (needed, free, newer):
        part = stores.fragment(key, key.encode() * 10)
        path = stores.blobs.fragment_path(key)
        put(path.with_name(f"{key}.json"), 10, OLD)
        os.utime(path, (OLD, OLD + (key == newer)))
        if key == needed:
            digest = Digest.of(key.encode() * 10)
            await put_layers(stores.layers, Layer("1" * 64, Join(digest, (part,)), digest, 640))
            os.utime(path, (OLD, OLD))
    for dry_run in (True, False):
        assert (await evicted(stores, Bounds(fragments=650), dry_run=dry_run))["cached fragments"] == (1, 650)
    assert [stores.blobs.fragment_path(key).exists() for key in (needed, free, newer)] == [True, False, True]
    assert not stores.blobs.fragment_path(free).with_name(f"{free}.json").exists()
    assert await stores.content(digest) == needed.encode() * 10


class _LateDatabase(Database):
    """Something happens before each writing transaction."""

    first: Callable[[], Awaitable[None]]

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        await self.first()
        async with super().writing() as connection:
            yield connection


async def test_a_layer_that_is_made_as_its_fragments_are_about_to_go_keeps_them(stores: Stores) -> None:
    key = f"{1:064x}"
    part = stores.fragment(key, b"fragment")
    os.utime(stores.blobs.fragment_path(key), (OLD, OLD))
    digest = Digest.of(b"fragment")

    async def make_layer() -> None:
        await put_layers(stores.layers, Layer("1" * 64, Join(digest, (part,)), digest, 8))

    database = _LateDatabase(stores.database.engine)
    database.first = make_layer
    blobs = BlobStore(database, stores.objects, stores.root / "fragments")
    assert (await Eviction(stores.root, blobs, Bounds(fragments=1)).evict())[-1].count == 0
    assert await stores.content(digest) == b"fragment"


def test_files_of_one_name_are_one_entry(tmp_path: Path) -> None:
    put(tmp_path / "ab" / "abc", 5, OLD)
    put(tmp_path / "ab" / "abc.json", 7, OLD + 3)
    put(tmp_path / "ab" / ".part-1", 100, OLD)
    (entry,) = survey(tmp_path)
    assert (entry.name, entry.size, entry.used, len(entry.paths)) == ("abc", 12, OLD + 3, 2)
    assert survey(tmp_path / "missing") == []


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 100)), max_size=20), st.integers(0, 400), st.integers(0, 110)
)
def test_as_little_goes_as_has_to(sizes: list[tuple[int, int]], bound: int, before: int) -> None:
    entries = [Entry(str(number), (), size, used) for number, (size, used) in enumerate(sizes)]
    chosen = find_excess(entries, bound, before)
    left = [entry for entry in entries if entry not in chosen]
    assert all(entry.used < before for entry in chosen)
    assert sum(entry.size for entry in left) <= bound or all(entry.used >= before for entry in left)
    if chosen:
        assert sum(entry.size for entry in left) + chosen[-1].size > bound
        assert all(entry.used >= chosen[-1].used for entry in left)


async def test_what_uv_keeps_is_evicted_whole(stores: Stores) -> None:
    pypi = stores.root / "pypi"
    for day, used in (("shared-1", OLD), ("shared-2", time.time())):
        for name in ("CACHEDIR.TAG", "deep/er/a.msgpack"):
            put(pypi / "uv" / day / name, 100, used)
    put(pypi / "metadata" / "ab" / "abc.metadata", 100, OLD + 10)
    assert (await evicted(stores, Bounds(pypi=300)))["cached pypi"] == (1, 200)
    assert not (pypi / "uv" / "shared-1").exists()
    assert (pypi / "metadata" / "ab" / "abc.metadata").exists()
    assert (await evicted(stores, Bounds(pypi=1)))["cached pypi"] == (1, 100)
    assert (pypi / "uv" / "shared-2" / "deep" / "er" / "a.msgpack").exists()
