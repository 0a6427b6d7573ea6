"""Accounts are made, disabled and deleted, each with what hangs on it, and one administrator is left."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import func, insert, select

from auth.access import may
from auth.accounts.bindings import Holder
from auth.accounts.loading import PrincipalLoader
from auth.errors import AccountUnknown, LastAdministrator, NameTaken, NameUnfit, PasswordUnfit, WrongKind
from auth.permission import Permission
from storage.database import account_tables as tables
from storage.database.tables import repository
from tests.support.auth.opened import TESTER, Opened

DELETE = Permission.ENVIRONMENT_DELETE


async def count(opened: Opened, table: object) -> int:
    async with opened.data.database.reading() as connection:
        query = select(func.count()).select_from(table)  # type: ignore[arg-type]  # a table
        return int((await connection.execute(query)).scalar_one())


async def give_sessions(opened: Opened, account_id: str) -> None:
    later = time.time() + 100
    shared = {"account": account_id, "epoch": 0, "created": 1.0, "expires": later}
    async with opened.data.changing() as connection:
        await connection.execute(insert(tables.refresh_token).values(hash="r" + account_id[:8], service="s", **shared))
        await connection.execute(insert(tables.browser_session).values(hash="b" + account_id[:8], **shared))
        token = {"id": account_id, "account": account_id, "name": "t", "hash": account_id, "created": 1.0}
        await connection.execute(insert(tables.access_token).values(**token))


async def has_sessions(opened: Opened) -> tuple[int, int, int]:
    each = tables.refresh_token, tables.browser_session, tables.access_token
    first, second, third = [await count(opened, table) for table in each]
    return first, second, third


async def test_accounts_are_listed_by_name(opened: Opened) -> None:
    assert not await opened.accounts.any()
    for name in ("bob", "alice"):
        await opened.add_person(name)
    await opened.accounts.add_robot("ci", owner="bob", expires=5.0, by=TESTER)
    assert await opened.accounts.any()
    assert [each.name for each in await opened.accounts.list_all()] == ["alice", "bob", "ci"]
    [robot] = await opened.accounts.list_all("robot")
    assert (robot.expires, robot.has_password, robot.owner) == (5.0, False, (await opened.accounts.find("bob")).id)


async def test_a_name_is_one_accounts(opened: Opened) -> None:
    await opened.add_person("alice")
    with pytest.raises(NameTaken, match="alice is the name of a person already"):
        await opened.add_person("alice")
    with pytest.raises(NameTaken):
        await opened.accounts.add_robot("alice", by=TESTER)
    with pytest.raises(NameUnfit):
        await opened.add_person("Bob")


async def test_of_many_who_want_a_name_at_once_one_gets_it(opened: Opened) -> None:
    adding = (opened.accounts.add_person("alice", f"password {n}", by=TESTER) for n in range(8))
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["Account"] + ["NameTaken"] * 7
    assert [each.name for each in await opened.accounts.list_all()] == ["alice"]


async def test_nobody_gets_the_namespace_of_others_by_their_name(opened: Opened, loader: PrincipalLoader) -> None:
    await opened.namespaces.create("team", by=TESTER)
    async with opened.data.database.writing() as connection:
        for name in ("pushed/app", "alone", "other/team2", "teams/x", "a_b/x"):
            await connection.execute(insert(repository).values(name=name, created=1.0))
    for name in ("team", "pushed", "alone"):
        with pytest.raises(NameTaken, match=f"{name} is the name of a namespace already"):
            await opened.add_person(name)
    # '_' is no wildcard, and what only begins alike is another
    for name in ("team2", "push", "a-b", "axb"):
        await opened.add_person(name)
    # a robot gets nothing by its name
    await opened.accounts.add_robot("pushed", by=TESTER)
    found = await opened.accounts.add_person("team", None, by=TESTER, take_namespace=True)
    loaded = await loader.load(found.id)
    assert loaded is not None
    assert may(loaded.principal, DELETE, "team/x")


async def test_who_was_meant_is_told(opened: Opened) -> None:
    await opened.add_person("alice")
    with pytest.raises(AccountUnknown, match="there is no account 'alcie'; did you mean alice"):
        await opened.accounts.find("alcie")
    for name in ("%", "alic_", "a\0", "\ud800", "x" * 1_000_000):
        with pytest.raises(AccountUnknown) as raised:
            await opened.accounts.find(name)
        assert len(str(raised.value)) < 300


async def test_passwords_that_are_none(opened: Opened) -> None:
    for password in ("", "short", "x" * 1_000_000):
        with pytest.raises(PasswordUnfit):
            await opened.add_person("alice", password)
    assert await opened.accounts.list_all() == []
    await opened.accounts.add_robot("ci", by=TESTER)
    with pytest.raises(WrongKind, match="ci is a robot"):
        await opened.accounts.set_password("ci", "correct horse", by=TESTER)
    with pytest.raises(NameUnfit, match="printable"):
        await opened.accounts.add_person("bob", None, by=TESTER, display_name="Bob\x1b[2J")


@pytest.mark.parametrize("what", ["set_password", "sign_out", "disable"])
async def test_what_was_signed_in_ends(opened: Opened, what: str) -> None:
    alice, bob = [await opened.add_person(name) for name in ("alice", "bob")]
    await give_sessions(opened, alice)
    await give_sessions(opened, bob)
    arguments = ["battery staple"] if what == "set_password" else []
    await getattr(opened.accounts, what)("alice", *arguments, by=TESTER)
    # bob's are there, and tokens that are revoked by themselves
    assert await has_sessions(opened) == (1, 1, 2)
    assert (await opened.accounts.find("alice")).epoch == 1
    assert (await opened.accounts.find("bob")).epoch == 0


async def test_what_is_for_persons_is_not_done_to_robots_nor_the_other_way(opened: Opened) -> None:
    await opened.add_person("alice")
    await opened.accounts.add_robot("ci", by=TESTER)
    for what in ("disable", "enable", "delete"):
        with pytest.raises(WrongKind, match="alice is a person: this is for a robot"):
            await getattr(opened.accounts, what)("alice", "robot", by=TESTER)
        with pytest.raises(WrongKind, match="ci is a robot: this is for a person"):
            await getattr(opened.accounts, what)("ci", by=TESTER)
    with pytest.raises(WrongKind, match="a robot belongs to a person"):
        await opened.accounts.add_robot("other", owner="ci", by=TESTER)
    await opened.accounts.delete("ci", "robot", by=TESTER)


async def test_disabled_accounts_come_back(opened: Opened, loader: PrincipalLoader) -> None:
    alice = await opened.add_person("alice")
    await opened.accounts.disable("alice", by=TESTER)
    loaded = await loader.load(alice)
    assert loaded is not None
    assert loaded.disabled
    await opened.accounts.enable("alice", by=TESTER)
    loaded = await loader.load(alice)
    assert loaded is not None
    assert not loaded.disabled


async def test_a_deleted_account_leaves_nothing_to_the_next_of_its_name(
    opened: Opened, loader: PrincipalLoader
) -> None:
    alice = await opened.add_person("alice")
    await opened.groups.add("science", by=TESTER)
    await opened.groups.join("science", "alice", by=TESTER)
    await opened.accounts.add_robot("ci", owner="alice", by=TESTER)
    await give_sessions(opened, alice)
    for name in ("alice", "ci"):
        await opened.bindings.bind(Holder("account", name), "team/*=admin", by=TESTER)
    await opened.accounts.delete("alice", by=TESTER)
    assert await opened.accounts.list_all() == []
    assert await has_sessions(opened) == (0, 0, 0)
    assert [await count(opened, table) for table in (tables.binding, tables.membership)] == [0, 0]
    loaded = await loader.load(await opened.add_person("alice"))
    assert loaded is not None
    assert not may(loaded.principal, Permission.ENVIRONMENT_READ, "team/x")
    assert await loader.load(alice) is None


class TestTheLastAdministrator:
    @pytest.fixture
    async def root(self, opened: Opened) -> Opened:
        """One administrator by a row, and bob, who may become one."""
        await opened.add_person("alice", administrator=True)
        await opened.add_person("bob")
        await opened.groups.add("admins", by=TESTER)
        return opened

    async def remove(self, root: Opened, way: str, *, force: bool = False) -> None:
        if way == "unbind":
            await root.bindings.unbind(Holder("account", "alice"), "*=admin", force=force, by=TESTER)
        else:
            await getattr(root.accounts, way)("alice", by=TESTER, force=force)

    @pytest.mark.parametrize("way", ["disable", "delete", "unbind"])
    async def test_stays(self, root: Opened, way: str) -> None:
        # neither is a robot one, nor who is admin of less, nor who may not sign in
        await root.accounts.add_robot("ci", by=TESTER)
        await root.bindings.bind(Holder("account", "ci"), "*=admin", by=TESTER)
        await root.bindings.bind(Holder("account", "bob"), "team/*=admin", by=TESTER)
        await root.bindings.bind(Holder("account", "bob"), "*=editor", by=TESTER)
        await root.bindings.bind(Holder("group", "admins"), "*=admin", by=TESTER)
        with pytest.raises(LastAdministrator, match="first make another one"):
            await self.remove(root, way)
        alice = await root.accounts.find("alice")
        assert not alice.disabled
        assert [str(each) for each in await root.bindings.list_all(Holder("account", "alice"))] == ["*=admin"]
        await self.remove(root, way, force=True)

    @pytest.mark.parametrize("way", ["disable", "delete", "unbind"])
    async def test_may_go_when_there_is_another(self, root: Opened, way: str) -> None:
        await root.groups.join("admins", "bob", by=TESTER)
        await root.bindings.bind(Holder("group", "admins"), "*=admin", by=TESTER)
        await self.remove(root, way)
        with pytest.raises(LastAdministrator):
            await root.groups.leave("admins", "bob", by=TESTER)
        with pytest.raises(LastAdministrator):
            await root.groups.delete("admins", by=TESTER)
        with pytest.raises(LastAdministrator):
            await root.bindings.unbind(Holder("group", "admins"), "*=admin", by=TESTER)
        with pytest.raises(LastAdministrator):
            await root.accounts.delete("bob", by=TESTER)
        assert [each.members for each in await root.groups.list_all()] == [("bob",)]

    async def test_two_that_go_at_once_do_not_both(self, root: Opened) -> None:
        await root.bindings.bind(Holder("account", "bob"), "*=admin", by=TESTER)
        going = (root.accounts.delete(name, by=TESTER) for name in ("alice", "bob"))
        results = await asyncio.gather(*going, return_exceptions=True)
        assert sorted(type(each).__name__ for each in results) == ["LastAdministrator", "NoneType"]

    async def test_none_takes_their_place_who_cannot_sign_in(self, root: Opened) -> None:
        await root.accounts.add_person("ghost", None, administrator=True, by=TESTER)
        await root.add_person("carol", administrator=True)
        await root.accounts.disable("carol", by=TESTER)
        await root.accounts.add_robot("ci", by=TESTER)
        ghost = await root.accounts.find("ghost")
        async with root.data.changing() as connection:
            token = {"id": "1", "account": ghost.id, "name": "t", "hash": "1", "created": 1.0}
            await connection.execute(insert(tables.access_token).values(**token))
        for way in ("disable", "delete", "unbind"):
            with pytest.raises(LastAdministrator):
                await self.remove(root, way)
        await root.accounts.set_password("ghost", "correct horse", by=TESTER)
        await self.remove(root, "disable")
        with pytest.raises(LastAdministrator):
            await root.accounts.disable("ghost", by=TESTER)

    async def test_none_whose_password_ends_takes_it_either(self, root: Opened) -> None:
        async with root.data.changing() as connection:
            values = {"kind": "person", "password": "hash", "expires": time.time() + 100, "created": 1.0}
            await connection.execute(insert(tables.account).values(id="1", name="printed", **values))
        await root.bindings.bind(Holder("account", "printed"), "*=admin", by=TESTER)
        for way in ("disable", "delete", "unbind"):
            with pytest.raises(LastAdministrator):
                await self.remove(root, way)
        await self.remove(root, "delete", force=True)
        with pytest.raises(LastAdministrator):
            await root.accounts.disable("printed", by=TESTER)

    async def test_one_who_can_only_be_given_a_password_is_kept_too(self, opened: Opened) -> None:
        await opened.accounts.add_person("ghost", None, administrator=True, by=TESTER)
        assert not await opened.accounts.has_administrator()
        with pytest.raises(LastAdministrator):
            await opened.accounts.delete("ghost", by=TESTER)
        await opened.accounts.set_password("ghost", "correct horse", by=TESTER)
        assert await opened.accounts.has_administrator()

    async def test_where_there_is_none_nobody_is_kept(self, opened: Opened) -> None:
        await opened.add_person("alice")
        await opened.accounts.delete("alice", by=TESTER)
