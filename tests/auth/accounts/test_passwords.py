"""Signing in with name and password, and what those find out who have none."""

from __future__ import annotations

import time
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update

from auth.accounts.hashing import HashPool
from auth.accounts.passwords import Passwords
from auth.changing import AccessData
from storage.database.account_tables import account
from tests.support.auth.opened import CHEAP, TESTER, Opened

RIGHT = "correct horse"


async def test_the_right_password_signs_in(opened: Opened) -> None:
    alice = await opened.add_person("alice", RIGHT)
    found = await opened.passwords.verify("alice", RIGHT)
    assert found is not None
    assert (found.id, found.name, found.kind, found.epoch) == (alice, "alice", "person", 0)
    assert RIGHT not in repr(found)
    assert "argon2" not in repr(found)


WRONG = [
    ("alice", "correct horsf"),
    ("alice", ""),
    ("alice", RIGHT + "\0"),
    ("alice", RIGHT + "x" * 1_000_000),
    ("alice", "\ud800"),
    ("Alice", RIGHT),
    ("alice ", RIGHT),
    ("ALICE", RIGHT),
    ("al\u0456ce", RIGHT),
    ("alice\0", RIGHT),
    ("%", RIGHT),
    ("alic_", RIGHT),
    ("a" * 1_000_000, RIGHT),
    ("nobody", RIGHT),
    ("", ""),
    ("ci", RIGHT),
    ("ci", ""),
    ("elsewhere", ""),
    ("disabled", RIGHT),
    ("expired", RIGHT),
]


@pytest.fixture
async def people(opened: Opened) -> Opened:
    await opened.add_person("alice", RIGHT)
    await opened.accounts.add_robot("ci", by=TESTER)
    await opened.accounts.add_person("elsewhere", None, by=TESTER)
    await opened.add_person("disabled", RIGHT)
    await opened.accounts.disable("disabled", by=TESTER)
    await opened.add_person("expired", RIGHT)
    async with opened.data.changing() as connection:
        await connection.execute(update(account).where(account.c.name == "expired").values(expires=time.time() - 1))
    return opened


async def test_enumeration_by_timing_nothing_else_does_and_all_takes_as_long(
    people: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hash is compared for each, whether there is such an account or not."""
    compared: list[str] = []
    matches = HashPool.matches

    async def noting(self: HashPool, stored: str | None, secret: bytes, **how: Any) -> bool:
        compared.append(self.hash_of_nobody if stored is None else stored)
        return await matches(self, stored, secret, **how)

    monkeypatch.setattr(HashPool, "matches", noting)
    for name, password in WRONG:
        compared.clear()
        assert await people.passwords.verify(name, password) is None, name[:20]
        [stored] = compared
        assert not people.passwords._pool.is_outdated(stored)


async def test_a_new_password_ends_the_old_one(opened: Opened) -> None:
    await opened.add_person("alice", RIGHT)
    await opened.accounts.set_password("alice", "battery staple", by=TESTER)
    assert await opened.passwords.verify("alice", RIGHT) is None
    found = await opened.passwords.verify("alice", "battery staple")
    assert found is not None
    assert found.epoch == 1


async def test_is_hashed_anew_when_the_costs_have_changed(opened: Opened, data: AccessData) -> None:
    await opened.add_person("alice", RIGHT)
    before = data.stamp
    dearer = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    with Passwords(data, 1, dearer) as passwords:
        assert await passwords.verify("alice", "wrong") is None
        assert not await is_hashed_by(dearer, data)
        assert await passwords.verify("alice", RIGHT) is not None
        assert await is_hashed_by(dearer, data)
        found = await passwords.verify("alice", RIGHT)
    assert found is not None
    # nothing that is signed in ends by it, and no process has to ask again
    assert found.epoch == 0
    assert data.stamp == before


async def is_hashed_by(hasher: PasswordHasher, data: AccessData) -> bool:
    async with data.database.reading() as connection:
        stored = (await connection.execute(select(account.c.password))).scalar_one()
    return not hasher.check_needs_rehash(stored)


async def test_the_time_is_noted_now_and_then(opened: Opened, data: AccessData) -> None:
    await opened.add_person("alice", RIGHT)
    assert (await opened.accounts.find("alice")).signed_in is None
    await opened.passwords.verify("alice", "wrong")
    assert (await opened.accounts.find("alice")).signed_in is None
    await opened.passwords.verify("alice", RIGHT)
    first = (await opened.accounts.find("alice")).signed_in
    assert first is not None
    await opened.passwords.verify("alice", RIGHT)
    assert (await opened.accounts.find("alice")).signed_in == first


def test_the_costs_of_tests_are_other_than_the_products() -> None:
    assert CHEAP.memory_cost < 1024
