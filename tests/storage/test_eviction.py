"""Caches stay within their bounds, oldest first, and what layers need or builds may be using stays."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.digest import Digest
from storage.eviction import IN_USE_SECONDS, Bounds, Entry, Eviction, over, survey
from storage.joins import Join, Layer
from tests.storage.stores import Stores, open_stores

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


async def test_no_bound_is_no_bound(stores: Stores) -> None:
    path = put(stores.root / "archives" / "old.conda", 1000, OLD)
    assert (await evicted(stores, Bounds()))["cached archives"] == (0, 0)
    assert path.exists()


async def test_fragments_that_layers_need_stay(stores: Stores) -> None:
    needed, free = f"{1:064x}", f"{2:064x}"
    for key in (needed, free):
        part = stores.fragment(key, key.encode() * 10)
        path = stores.blobs.fragment_path(key)
        put(path.with_name(f"{key}.json"), 10, OLD)
        os.utime(path, (OLD, OLD))
        if key == needed:
            digest = Digest.of(key.encode() * 10)
            await stores.blobs.put_layers([Layer("1" * 64, Join(digest, (part,)), digest, 640)])
            os.utime(path, (OLD, OLD))
    assert (await evicted(stores, Bounds(fragments=1)))["cached fragments"] == (1, 650)
    assert [stores.blobs.fragment_path(key).exists() for key in (needed, free)] == [True, False]
    assert not stores.blobs.fragment_path(free).with_name(f"{free}.json").exists()
    assert await stores.content(digest) == needed.encode() * 10


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
    chosen = over(entries, bound, before)
    left = [entry for entry in entries if entry not in chosen]
    assert all(entry.used < before for entry in chosen)
    assert sum(entry.size for entry in left) <= bound or all(entry.used >= before for entry in left)
    if chosen:
        assert sum(entry.size for entry in left) + chosen[-1].size > bound
        assert all(entry.used >= chosen[-1].used for entry in left)
