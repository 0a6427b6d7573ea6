"""The accounts of people who have signed in elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from auth.accounts.bindings import Holder
from auth.errors import AccountUnknown, LastAdministrator, WrongKind
from auth.sign_in.errors import IdentityTaken, IdentityUnfit, IdentityUnknown, SignInRefused
from auth.sign_in.identities import PROXY, Identities, Identity
from auth.sign_in.sessions import BrowserSessions
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.refresh_tokens import RefreshTokens
from storage.database.account_tables import account, audit, membership
from tests.support.auth.opened import TESTER, Opened

ISSUER = "https://sso.example.org"


@pytest.fixture
def identities(opened: Opened) -> Identities:
    return Identities(opened.data, opened.accounts)


def somebody(name: str = "alice", *groups: str, issuer: str = ISSUER, subject: str = "") -> Identity:
    return Identity(issuer, subject or f"id-of-{name}", name, frozenset(groups))


async def groups_of(opened: Opened, found: Credential) -> set[tuple[str, str]]:
    async with opened.data.database.reading() as connection:
        query = select(membership.c.group_name, membership.c.source).where(membership.c.account == found.account)
        return {(row.group_name, row.source) for row in await connection.execute(query)}


async def actions(opened: Opened) -> list[tuple[Any, ...]]:
    async with opened.data.database.reading() as connection:
        rows = await connection.execute(select(audit.c.principal, audit.c.action, audit.c.entity).order_by(audit.c.id))
        return [tuple(row) for row in rows]


async def test_an_account_is_made_at_the_first_sign_in(opened: Opened, identities: Identities) -> None:
    stamp = opened.data.stamp
    first = await identities.sign_in(somebody())
    assert opened.data.stamp != stamp
    account = await opened.accounts.find("alice")
    assert (first.account, account.kind, account.has_password) == (account.id, "person", False)
    assert await actions(opened) == [("alice", "user.add", "alice")]
    stamp = opened.data.stamp
    assert await identities.sign_in(somebody()) == first
    assert opened.data.stamp == stamp, "nothing is forgotten for who comes again"


async def test_many_first_sign_ins_at_once_make_one_account(opened: Opened, identities: Identities) -> None:
    found = await asyncio.gather(*(identities.sign_in(somebody()) for _ in range(10)))
    assert len(set(found)) == 1
    assert [each.name for each in await opened.accounts.list_all()] == ["alice"]


async def test_who_is_renamed_keeps_the_account_and_nobody_else_gets_it(opened: Opened, identities: Identities) -> None:
    first = await identities.sign_in(somebody("alice", subject="1"))
    assert await identities.sign_in(somebody("alicia", subject="1")) == first
    with pytest.raises(SignInRefused, match="alice is the name of a person here already") as caught:
        await identities.sign_in(somebody("alice", subject="2"))
    assert f"condery user connect NAME --issuer {ISSUER} --subject 2" in str(caught.value)
    with pytest.raises(SignInRefused):
        await identities.sign_in(somebody("alice", issuer="https://other.example.org", subject="1"))


async def test_a_local_account_is_not_taken_over(opened: Opened, identities: Identities) -> None:
    await opened.add_person("admin", administrator=True)
    await opened.accounts.add_robot("ci", by=TESTER)
    await opened.namespaces.create("team", by=TESTER)
    for name, what in (("admin", "a person"), ("ci", "a robot"), ("team", "a namespace")):
        with pytest.raises(SignInRefused, match=f"{name} is the name of {what} here already"):
            await identities.sign_in(somebody(name))


@pytest.mark.parametrize(
    "name", ["Alice", "alice@example.org", "anonymous", "v2", "on-demand", "аlice", "../x", "a" * 65]
)
async def test_a_name_that_is_none_here(identities: Identities, name: str) -> None:
    with pytest.raises(SignInRefused, match=r"cannot be the name of an account(.|\n)*condery user connect"):
        await identities.sign_in(somebody(name))


@pytest.mark.parametrize("subject", ["a" * 256, "a\nb", "a\0b", "a\x1b[2J"])
async def test_a_subject_that_cannot_be_stored(identities: Identities, subject: str) -> None:
    with pytest.raises(SignInRefused, match="printable characters") as caught:
        await identities.sign_in(somebody(subject=subject))
    assert subject not in str(caught.value)


async def test_ghsa_c9p4_xwr9_rfhx_groups_come_and_go_with_each_sign_in(opened: Opened, identities: Identities) -> None:
    for name in ("dev", "ops", "admins"):
        await opened.groups.add(name, by=TESTER)
    found = await identities.sign_in(somebody("alice", "dev", "ops", "unknown", "Not A Name", "x" * 300))
    assert await groups_of(opened, found) == {("dev", ISSUER), ("ops", ISSUER)}
    await opened.groups.join("admins", "alice", by=TESTER)
    await opened.groups.join("ops", "alice", by=TESTER)
    assert await identities.sign_in(somebody("alice", "admins")) == found
    # what was made here stays, also where the issuer says the same or does not any more
    assert await groups_of(opened, found) == {("admins", ISSUER), ("admins", "local"), ("ops", "local")}
    await identities.sign_in(somebody("alice"))
    assert await groups_of(opened, found) == {("admins", "local"), ("ops", "local")}
    assert [each for each in await actions(opened) if each[0] == "alice"] == [
        ("alice", "user.add", "alice"),
        ("alice", "group.join", "dev"),
        ("alice", "group.join", "ops"),
        ("alice", "group.join", "admins"),
        ("alice", "group.leave", "dev"),
        ("alice", "group.leave", "ops"),
        ("alice", "group.leave", "admins"),
    ]


async def test_more_groups_than_are_read_are_refused(opened: Opened, identities: Identities) -> None:
    """With some of them left out, a person would have rights by chance."""
    many = [f"g{number}" for number in range(501)]
    with pytest.raises(SignInRefused, match="lists 501 groups of this user; at most 500"):
        await identities.sign_in(somebody("alice", *many, issuer=PROXY))
    assert await opened.accounts.list_all() == []
    assert await identities.sign_in(somebody("alice", *many[1:], issuer=PROXY))


async def test_an_issuer_that_says_nothing_of_groups_changes_none(opened: Opened, identities: Identities) -> None:
    await opened.groups.add("dev", by=TESTER)
    found = await identities.sign_in(somebody("alice", "dev"))
    await identities.sign_in(Identity(ISSUER, "id-of-alice", "alice", None))
    assert await groups_of(opened, found) == {("dev", ISSUER)}


async def test_an_administrator_connects_an_account(opened: Opened, identities: Identities) -> None:
    account_id = await opened.add_person("alice")
    await identities.connect("alice", PROXY, "Alice@Example.org", by=TESTER)
    await identities.connect("alice", PROXY, "Alice@Example.org", by=TESTER)
    found = await identities.sign_in(Identity(PROXY, "Alice@Example.org", "Alice@Example.org", None))
    assert found.account == account_id
    await opened.add_person("bob")
    with pytest.raises(IdentityTaken, match="is alice here already"):
        await identities.connect("bob", PROXY, "Alice@Example.org", by=TESTER)
    await opened.groups.add("dev", by=TESTER)
    await identities.sign_in(Identity(PROXY, "Alice@Example.org", "", frozenset({"dev"})))
    assert await groups_of(opened, found) == {("dev", PROXY)}
    await identities.disconnect("alice", PROXY, by=TESTER)
    assert await groups_of(opened, found) == set()
    with pytest.raises(SignInRefused):
        await identities.sign_in(Identity(PROXY, "Alice@Example.org", "Alice@Example.org", None))
    with pytest.raises(IdentityUnknown, match="alice is not connected"):
        await identities.disconnect("alice", PROXY, by=TESTER)


class TestTheLastAdministrator:
    @pytest.fixture
    async def admins(self, opened: Opened) -> Opened:
        """Alice is admin of everything by a row, and whoever is in the group."""
        await opened.add_person("alice", administrator=True)
        await opened.groups.add("admins", by=TESTER)
        await opened.bindings.bind(Holder("group", "admins"), "*=admin", by=TESTER)
        return opened

    async def test_stays_when_another_is_one_by_the_word_of_a_provider(
        self, admins: Opened, identities: Identities
    ) -> None:
        bob = await identities.sign_in(somebody("bob", "admins"))
        with pytest.raises(LastAdministrator, match="not by a group of a provider alone"):
            await admins.accounts.disable("alice", by=TESTER)
        with capture_logs() as lines:
            assert await identities.sign_in(somebody("bob")) == bob
        assert not [line for line in lines if line["log_level"] == "warning"], "alice is there"
        await admins.groups.join("admins", "bob", by=TESTER)
        await admins.accounts.disable("alice", by=TESTER)

    async def test_goes_with_the_group_and_the_log_tells(self, admins: Opened, identities: Identities) -> None:
        bob = await identities.sign_in(somebody("bob", "admins"))
        await admins.accounts.disable("alice", by=TESTER, force=True)
        assert await admins.accounts.has_administrator()
        with capture_logs() as lines:
            assert await identities.sign_in(somebody("bob")) == bob
        assert await groups_of(admins, bob) == set()
        assert not await admins.accounts.has_administrator()
        [warning] = [line for line in lines if line["log_level"] == "warning"]
        assert (warning["event"], warning["was"]) == ("nobody who can sign in is admin of everything", "bob")

    async def test_is_not_disconnected(self, opened: Opened, identities: Identities) -> None:
        await opened.accounts.add_person("ghost", None, administrator=True, by=TESTER)
        await identities.connect("ghost", ISSUER, "1", by=TESTER)
        with pytest.raises(LastAdministrator):
            await identities.disconnect("ghost", ISSUER, by=TESTER)
        await identities.connect("ghost", PROXY, "ghost", by=TESTER)
        await identities.disconnect("ghost", ISSUER, by=TESTER)
        await identities.disconnect("ghost", PROXY, by=TESTER, force=True)


async def test_who_is_disconnected_is_signed_out(opened: Opened, identities: Identities) -> None:
    sessions, refresh = BrowserSessions(opened.data, 12), RefreshTokens(opened.data, 30)
    found, other = await identities.sign_in(somebody("alice")), await identities.sign_in(somebody("bob"))
    session, token = await sessions.make(found, ISSUER), await refresh.make(found, "condery", "docker")
    of_other = await sessions.make(other, ISSUER)
    await identities.disconnect("alice", ISSUER, by=TESTER)
    with pytest.raises(CredentialsInvalid):
        await sessions.find(session)
    with pytest.raises(CredentialsInvalid):
        await refresh.find(token, "condery")
    async with opened.data.database.reading() as connection:
        query = select(account.c.epoch).where(account.c.id == found.account)
        assert (await connection.execute(query)).scalar_one() > found.epoch, "registry tokens end, too"
    assert await sessions.find(of_other)


async def test_the_audit_log_names_the_account_and_not_what_the_issuer_calls_it(
    opened: Opened, identities: Identities
) -> None:
    await opened.groups.add("dev", by=TESTER)
    await opened.add_person("bob")
    await identities.sign_in(somebody("alice", subject="1"))
    await identities.sign_in(somebody("bob", "dev", subject="1"))
    await identities.sign_in(somebody("bob", subject="1"))
    assert [each for each in await actions(opened) if each[2] == "dev"][-2:] == [
        ("alice", "group.join", "dev"),
        ("alice", "group.leave", "dev"),
    ]


async def test_what_cannot_be_connected(opened: Opened, identities: Identities) -> None:
    await opened.accounts.add_robot("ci", by=TESTER)
    with pytest.raises(WrongKind):
        await identities.connect("ci", PROXY, "ci", by=TESTER)
    with pytest.raises(AccountUnknown):
        await identities.connect("nobody", PROXY, "x", by=TESTER)
    await opened.add_person("alice")
    for issuer, subject in ((PROXY, ""), (PROXY, "a\0"), ("x" * 256, "a")):
        with pytest.raises(IdentityUnfit):
            await identities.connect("alice", issuer, subject, by=TESTER)
