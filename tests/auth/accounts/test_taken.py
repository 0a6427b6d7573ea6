"""Nobody gets by their name what others count on: what is in use is somebody's, whether a row says so or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import insert

from auth.accounts.accounts import Accounts
from auth.accounts.bindings import Holder
from auth.accounts.names import Names
from auth.errors import NameTaken
from auth.sign_in.errors import SignInRefused
from auth.sign_in.identities import PROXY, Identities, Identity
from storage.database.account_tables import binding, credential
from tests.support.auth.opened import ROOT, TESTER, Opened

FREE = ("tea", "teams", "te-m", "a", "b")


@pytest.fixture
async def bob(opened: Opened) -> Opened:
    await opened.add_person("bob")
    return opened


async def bind_account(opened: Opened) -> None:
    await opened.bindings.bind(Holder("account", "bob"), "team/*=editor", by=TESTER)


async def bind_one_repository(opened: Opened) -> None:
    await opened.bindings.bind(Holder("account", "bob"), "team/app=viewer", by=TESTER)


async def bind_group(opened: Opened) -> None:
    await opened.groups.add("science", by=TESTER)
    await opened.bindings.bind(Holder("group", "science"), "team/*=editor", by=TESTER)


async def bind_namespace(opened: Opened) -> None:
    await opened.namespaces.create("lab", by=TESTER)
    await opened.bindings.bind(Holder("namespace", "lab"), "team/*=viewer", by=TESTER)


async def bind_robot(opened: Opened) -> None:
    await opened.accounts.add_robot("ci", by=TESTER)
    await opened.bindings.bind(Holder("account", "ci"), "team/x*=editor", by=TESTER)


async def give_credential(opened: Opened) -> None:
    secret = {"kind": "channel", "address": "https://c", "secret": "s", "created": 1.0, "created_by": "bob"}
    async with opened.data.changing() as connection:
        await connection.execute(insert(credential).values(id="1", namespace="team", **secret))


USES = [bind_account, bind_one_repository, bind_group, bind_namespace, bind_robot, give_credential]


@pytest.mark.parametrize("use", USES)
async def test_a_namespace_that_is_in_use_is_nobody_elses(
    bob: Opened, use: Callable[[Opened], Awaitable[None]]
) -> None:
    await use(bob)
    with pytest.raises(NameTaken, match=r"team is the name of a namespace already; .*--take-namespace"):
        await bob.add_person("team")
    for issuer in (PROXY, "https://sso.example.org"):
        with pytest.raises(SignInRefused, match="team is the name of a namespace here already") as caught:
            await Identities(bob.data, bob.accounts).sign_in(Identity(issuer, "1", "team"))
        assert "editor" not in str(caught.value), "a stranger is not told who has what"
        assert "condery user connect" in str(caught.value)
    for name in FREE:
        await bob.add_person(name)
    await bob.accounts.add_person("team", None, by=TESTER, take_namespace=True)


async def test_a_pattern_that_only_matches_it_does_not_hold_a_name(bob: Opened) -> None:
    for text in ("t*m/*=editor", "*/app=viewer", "tea*/*=viewer", "*=viewer"):
        await bob.bindings.bind(Holder("account", "bob"), text, by=TESTER)
    await bob.add_person("team")


async def test_capitals_are_other_letters(bob: Opened) -> None:
    async with bob.data.changing() as connection:
        row = {"holder_kind": "account", "holder": (await bob.accounts.find("bob")).id, "pattern": "TEAM/*"}
        await connection.execute(insert(binding).values(id="1", role="editor", created=1.0, created_by="", **row))
    await bob.add_person("team")


async def test_a_group_of_the_name(bob: Opened) -> None:
    await bob.groups.add("science", by=TESTER)
    with pytest.raises(NameTaken, match=r"science is the name of a group already; .*--take-namespace"):
        await bob.add_person("science")
    with pytest.raises(SignInRefused, match="science is the name of a group here already"):
        await Identities(bob.data, bob.accounts).sign_in(Identity(PROXY, "1", "science"))
    await bob.accounts.add_robot("science", by=TESTER)


async def test_what_the_settings_grant(opened: Opened) -> None:
    accounts = Accounts(opened.data, Names(ROOT, ["public/*", "lab/app", "p*/*", "*/*"]), opened.passwords)
    for name in ("public", "lab"):
        with pytest.raises(NameTaken, match="the settings grant something in it"):
            await accounts.add_person(name, None, by=TESTER)
        with pytest.raises(SignInRefused, match=f"{name} is the name of a namespace here already"):
            await Identities(opened.data, accounts).sign_in(Identity(PROXY, name, name))
    await accounts.add_person("publi", None, by=TESTER)
    await accounts.add_person("public", None, by=TESTER, take_namespace=True)


async def test_what_was_bound_on_a_persons_namespace_keeps_their_name(bob: Opened) -> None:
    """It is about repositories that stay, so it stays, and nobody gets it by accident."""
    await bob.add_person("dave")
    await bob.bindings.bind(Holder("account", "bob"), "dave/*=viewer", by=TESTER)
    await bob.accounts.delete("dave", by=TESTER)
    assert [str(each) for each in await bob.bindings.list_all()] == ["dave/*=viewer"]
    with pytest.raises(NameTaken, match=r"somebody was bound to dave/\*=viewer"):
        await bob.add_person("dave")
    await bob.bindings.unbind(Holder("account", "bob"), "dave/*=viewer", by=TESTER)
    await bob.add_person("dave")
