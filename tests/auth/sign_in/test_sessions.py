"""Browsers that are signed in, and sign-ins that have not come back yet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select, update

from auth.changing import AccessData
from auth.sign_in import pending as pending_module
from auth.sign_in.pending import PendingSignIns
from auth.sign_in.sessions import BrowserSessions
from auth.tokens import account_secrets
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from storage.database.account_tables import browser_session, sign_in
from tests.support.auth.rows import Rows


@pytest.fixture
def sessions(data: AccessData) -> BrowserSessions:
    return BrowserSessions(data, 12)


async def count(data: AccessData, table: Any) -> int:
    async with data.database.reading() as connection:
        found: int = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
        return found


async def change(data: AccessData, statement: Any) -> None:
    async with data.changing() as connection:
        await connection.execute(statement)


async def test_a_session(data: AccessData, rows: Rows, sessions: BrowserSessions) -> None:
    account = await rows.add_account("alice")
    text = await sessions.make(Credential(account, 3), "https://sso.example.org")
    found = await sessions.find(text)
    assert (found.credential.account, found.credential.epoch) == (account, 3)
    for wrong in ("", text[:-1], text + "x", text.upper(), "é", "x" * 10_000):
        with pytest.raises(CredentialsInvalid):
            await sessions.find(wrong)
    stamp = data.stamp
    await sessions.end(text)
    assert data.stamp != stamp, "other processes forget it, too"
    with pytest.raises(CredentialsInvalid):
        await sessions.find(text)


async def test_sessions_of_an_account_are_bounded(
    data: AccessData, rows: Rows, sessions: BrowserSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_secrets, "MOST_OF_ACCOUNT", 3)
    alice, bob = await rows.add_account("alice"), await rows.add_account("bob")
    of_bob = await sessions.make(Credential(bob), "i")
    texts = [await sessions.make(Credential(alice), "i") for _ in range(5)]
    assert await count(data, browser_session) == 4
    assert await sessions.find(texts[-1])
    assert await sessions.find(of_bob)
    with pytest.raises(CredentialsInvalid):
        await sessions.find(texts[0])
    await change(data, update(browser_session).values(expires=1.0))
    await sessions.make(Credential(alice), "i")
    assert await count(data, browser_session) == 1


async def test_a_pending_sign_in_is_taken_once(data: AccessData) -> None:
    pending, others = PendingSignIns(data, "oidc"), PendingSignIns(data, "device")
    state = await pending.begin({"nonce": "n"}, "192.0.2.1")
    assert await others.take(state) is None
    assert await pending.take("another") is None
    taken = await asyncio.gather(*(pending.take(state) for _ in range(10)))
    assert [each for each in taken if each is not None] == [{"nonce": "n"}]


async def test_cve_2026_34052_pending_sign_ins_are_bounded_and_expire(
    data: AccessData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_module, "MOST", 3)
    pending = PendingSignIns(data, "oidc")
    states = [await pending.begin({"number": str(number)}, f"192.0.2.{number}") for number in range(6)]
    assert await count(data, sign_in) == 3
    assert await pending.take(states[0]) is None
    assert await pending.take(states[-1]) == {"number": "5"}
    await change(data, update(sign_in).values(expires=1.0))
    assert await pending.take(states[-2]) is None


async def test_a_client_that_begins_many_pushes_out_its_own(data: AccessData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "MOST", 4)
    pending = PendingSignIns(data, "oidc")
    of_other = await pending.begin({"of": "other"}, "192.0.2.9")
    mine = [await pending.begin({"of": "mine"}, "192.0.2.1") for _ in range(6)]
    assert await count(data, sign_in) == 4
    assert await pending.take(of_other) == {"of": "other"}, "it is the oldest of all"
    assert [await pending.take(each) is not None for each in mine] == [False] * 3 + [True] * 3


async def test_a_session_of_a_clock_that_was_ahead_is_none(
    data: AccessData, rows: Rows, sessions: BrowserSessions
) -> None:
    text = await sessions.make(Credential(await rows.add_account("alice")), "i")
    year = 365 * 86400.0
    ahead = {"created": browser_session.c.created + year, "expires": browser_session.c.expires + year}
    await change(data, update(browser_session).values(ahead))
    with pytest.raises(CredentialsInvalid):
        await sessions.find(text)
