"""Passwords as they are hashed: how, how many at a time, and what is no password."""

from __future__ import annotations

import asyncio
import os
import threading
import unicodedata
from collections.abc import Iterator
from typing import Literal

import pytest
from argon2 import PasswordHasher, Type, extract_parameters

from auth.accounts import hashing
from auth.accounts.hashing import (
    MOST_BYTES,
    NICENESS,
    WAITING_PER_THREAD,
    HashPool,
    check_password,
    make_hasher,
    read_password,
)
from auth.errors import PasswordUnfit, SignInBusy
from tests.support.auth.opened import CHEAP


@pytest.fixture
def pool() -> Iterator[HashPool]:
    pool = HashPool(2, CHEAP)
    yield pool
    pool.close()


async def test_hashes_are_argon2id_with_a_salt(pool: HashPool) -> None:
    first, second = [await pool.hash(b"secret") for _ in range(2)]
    assert first != second
    assert extract_parameters(first).type is Type.ID
    assert await pool.matches(first, b"secret")
    assert not await pool.matches(first, b"secre")
    assert not await pool.matches("no hash at all", b"secret")


def test_costs_are_those_of_rfc_9106() -> None:
    # its second recommended option, "low memory"; the lanes are fewer, not the memory
    hasher = make_hasher()
    assert (hasher.type, hasher.time_cost, hasher.memory_cost) == (Type.ID, 3, 64 * 1024)


@pytest.mark.parametrize("hasher", [make_hasher(), CHEAP])
async def test_nobodys_hash_costs_as_much_as_anybodys(hasher: PasswordHasher) -> None:
    pool = HashPool(1, hasher)
    assert extract_parameters(pool.hash_of_nobody) == extract_parameters(hasher.hash("x"))
    assert not pool.is_outdated(pool.hash_of_nobody)
    assert not await pool.matches(pool.hash_of_nobody, b"")
    assert not await pool.matches(None, b"")
    pool.close()


async def test_no_more_wait_than_there_is_patience_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "WAITING_PER_THREAD", 2)
    go_on = threading.Event()
    running: list[str] = []

    class Slow(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            running.append(threading.current_thread().name)
            go_on.wait()
            return "hashed"

    pool = HashPool(2, Slow(1, 8, 1))
    tasks = [asyncio.create_task(pool.hash(b"x")) for _ in range(7)]
    done, waiting = await asyncio.wait(tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    [refused] = done
    assert isinstance(refused.exception(), SignInBusy)
    assert len(waiting) == 2 * (1 + 2)
    # who hangs up makes room only where no thread is busy for them
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert (len(running), pool._strangers._count) == (2, 2)
    go_on.set()
    assert await pool.hash(b"y") == "hashed"
    assert len(set(running)) <= 2
    pool.close()


async def test_what_was_right_before_does_not_wait_for_what_is_wrong() -> None:
    go_on = threading.Event()

    class Slow(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - argon2's name
            if password == b"wrong":
                go_on.wait()
            return super().verify(hash, password)

    hasher = Slow(1, 8, 1)
    pool = HashPool(1, hasher)
    stored = hasher.hash(b"right")
    flood = [asyncio.create_task(pool.matches(stored, b"wrong")) for _ in range(100)]
    await asyncio.sleep(0)
    with pytest.raises(SignInBusy):
        await pool.matches(stored, b"right")
    assert await pool.matches(stored, b"right", known=True)
    go_on.set()
    await asyncio.gather(*flood, return_exceptions=True)
    assert not await pool.matches(stored, b"other", known=True)
    pool.close()


async def test_right_passwords_of_one_network_leave_room_for_others() -> None:
    go_on = threading.Event()

    class Slow(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - argon2's name
            go_on.wait()
            return super().verify(hash, password)

    hasher = Slow(1, 8, 1)
    pool = HashPool(1, hasher)
    stored = hasher.hash(b"right")
    flood = [asyncio.create_task(pool.matches(stored, b"right", known=True, network="one")) for _ in range(100)]
    await asyncio.sleep(0)
    with pytest.raises(SignInBusy):
        await pool.matches(stored, b"right", known=True, network="one")
    other = asyncio.create_task(pool.matches(stored, b"right", known=True, network="other"))
    await asyncio.sleep(0)
    assert not other.done()
    go_on.set()
    assert await other
    done = await asyncio.gather(*flood, return_exceptions=True)
    assert done.count(True) == 1 + WAITING_PER_THREAD
    # all of it is free again
    assert await pool.matches(stored, b"right", known=True, network="one")
    assert (pool._known._count, pool._known._counts) == (0, {})
    pool.close()


async def test_hashing_gives_way_to_requests() -> None:
    seen: list[int] = []

    class Noting(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            seen.append(os.getpriority(os.PRIO_PROCESS, 0))
            return "hashed"

    pool = HashPool(1, Noting(1, 8, 1))
    await pool.hash(b"x")
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert seen == [min(own + NICENESS, 19)]
    pool.close()


class TestWhatAPasswordIs:
    @pytest.mark.parametrize("text", ["x" * (MOST_BYTES + 1), "x" * 1_000_000, "é" * 600, "\ud800" * 10, "\ufdfa" * 60])
    def test_not_too_long_and_not_other_than_text(self, text: str) -> None:
        assert read_password(text) is None
        with pytest.raises(PasswordUnfit):
            check_password(text)

    def test_not_too_short(self) -> None:
        with pytest.raises(PasswordUnfit, match="fewer than 8"):
            check_password("1234567")
        assert check_password("12345678") == b"12345678"

    def test_one_however_its_letters_are_written(self) -> None:
        composed, decomposed = (unicodedata.normalize(form, "crème brûlée") for form in ("NFC", "NFD"))
        assert composed != decomposed
        assert read_password(composed) == read_password(decomposed)

    def test_any_character_counts(self) -> None:
        assert read_password("a\0b") == b"a\0b"
        assert read_password("pass word ") == b"pass word "
