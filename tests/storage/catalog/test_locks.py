"""Locks: a later solve wins, and they are found by their own keys and their specs'."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.catalog.locks import Locks
from tests.support.storage.stores import open_stores


@pytest.fixture
async def locks(tmp_path: Path, database_url: str) -> AsyncIterator[Locks]:
    async with open_stores(tmp_path, url=database_url) as stores:
        yield stores.catalog.locks


async def put_solve(
    locks: Locks, lock_key: str, spec_key: str = "spec", *, request: str = "request", solved: float = 1.0
) -> None:
    await locks.put_solve(
        request, "2026-01-31", solved, lock_key=lock_key, spec_key=spec_key, document={"key": lock_key}
    )


async def test_a_later_solve_replaces_an_earlier_one_only(locks: Locks) -> None:
    await put_solve(locks, "lock2", solved=20.0)
    await put_solve(locks, "lock1", solved=10.0)
    resolution = await locks.find_resolution("request")
    assert resolution is not None
    assert resolution.lock_key == "lock2"
    await put_solve(locks, "lock3", solved=30.0)
    resolution = await locks.find_resolution("request")
    assert resolution is not None
    assert resolution.lock_key == "lock3"
    await locks.forget_resolution("request")
    assert await locks.find_resolution("request") is None


async def test_locks_are_found_by_the_beginning_of_their_key(locks: Locks) -> None:
    for key in ("ab" * 32, "ab" * 31 + "ac", "cd" * 32):
        await put_solve(locks, key, "spec" + key[:2])
    assert [key for key, _ in await locks.find_by_prefix("ab" * 31)] == ["ab" * 32, "ab" * 31 + "ac"]
    assert await locks.find_by_prefix("cd" * 6) == [("cd" * 32, "speccd")]
    assert await locks.find_by_prefix("ff" * 6) == []
    assert await locks.find("cd" * 32) == {"key": "cd" * 32}
    assert await locks.list_of_spec("specab") == ["ab" * 32, "ab" * 31 + "ac"]
    await put_solve(locks, "ab" * 32, "specab", request="dated")
    assert await locks.list_days("specab") == ["2026-01-31"]


async def test_one_spec_is_found_by_the_beginning_of_its_key(locks: Locks) -> None:
    for number, spec in enumerate(("aa" * 32, "aa" * 32, "ab" * 32)):
        await put_solve(locks, f"{number:064x}", spec)
    assert await locks.find_of_spec("aa" * 4) in [{"key": f"{number:064x}"} for number in (0, 1)]
    assert await locks.find_of_spec("a") is None
    assert await locks.find_of_spec("bb") is None
