"""Bindings are made, listed and taken back, and nobody grants what they lack."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import insert

from auth.access import may
from auth.accounts.bindings import Holder, check_subset
from auth.accounts.loading import PrincipalLoader
from auth.accounts.passwords import Passwords
from auth.binding import Binding, parse_binding
from auth.changing import AccessData
from auth.errors import (
    AccountUnknown,
    BindingInvalid,
    BindingUnknown,
    GrantExceeded,
    GroupUnknown,
    NamespaceUnknown,
)
from auth.grants import Grants
from auth.permission import Permission
from auth.principal import ANONYMOUS, Principal
from auth.role import Roles, parse_role
from storage.database.account_tables import binding
from tests.support.auth.opened import TESTER, Opened

ALICE = Holder("account", "alice")


@pytest.fixture
async def team(opened: Opened) -> Opened:
    for name in ("alice", "bob"):
        await opened.add_person(name)
    await opened.groups.add("science", by=TESTER)
    await opened.namespaces.create("lab", by=TESTER)
    return opened


async def test_what_no_name_can_be_is_not_bound_and_can_be_unbound(team: Opened) -> None:
    with pytest.raises(BindingInvalid, match=r"names have no capitals; did you mean 'team/\*'"):
        await team.bindings.bind(ALICE, "TEAM/*=editor", by=TESTER)
    row = {"holder_kind": "account", "holder": (await team.accounts.find("alice")).id, "pattern": "TEAM/*"}
    async with team.data.changing() as connection:
        await connection.execute(insert(binding).values(id="1", role="editor", created=1.0, created_by="", **row))
    await team.bindings.unbind(ALICE, "TEAM/*=editor", by=TESTER)
    assert await team.bindings.list_all() == []


async def test_each_kind_of_holder_has_its_own(team: Opened) -> None:
    holders = [ALICE, Holder("group", "science"), Holder("namespace", "lab")]
    for holder in holders:
        await team.bindings.bind(holder, "team/*=developer", by=TESTER)
    listed = await team.bindings.list_all()
    assert [(str(each.holder), str(each), each.created_by) for each in listed] == [
        ("account alice", "team/*=editor", "operator"),
        ("group science", "team/*=editor", "operator"),
        ("namespace lab", "team/*=editor", "operator"),
    ]
    await team.bindings.unbind(holders[0], "team/*=developer", by=TESTER)
    assert [each.holder for each in await team.bindings.list_all()] == holders[1:]
    assert await team.bindings.list_all(ALICE) == []


async def test_what_is_bound_already_stays_once(team: Opened) -> None:
    binding = (team.bindings.bind(ALICE, text, by=TESTER) for text in ["*=viewer", "*/*=viewer"] * 4)
    await asyncio.gather(*binding)
    assert [str(each) for each in await team.bindings.list_all()] == ["*=viewer"]


async def test_what_is_not_there_is_told(team: Opened) -> None:
    await team.bindings.bind(ALICE, "team/*=viewer", by=TESTER)
    with pytest.raises(BindingUnknown, match=r"account alice does not have the binding team/x=viewer; it has team"):
        await team.bindings.unbind(ALICE, "team/x=viewer", by=TESTER)
    with pytest.raises(BindingUnknown, match="it has none"):
        await team.bindings.unbind(Holder("account", "bob"), "team/x=viewer", by=TESTER)
    for holder, error in (
        (Holder("account", "carol"), AccountUnknown),
        (Holder("group", "alice"), GroupUnknown),
        (Holder("namespace", "alice"), NamespaceUnknown),
        (Holder("group", "scienc_"), GroupUnknown),
    ):
        with pytest.raises(error):
            await team.bindings.bind(holder, "team/*=viewer", by=TESTER)
        with pytest.raises(error):
            await team.bindings.list_all(holder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("team/*", "is not a binding such as"),
        ("team/*=owner", "'owner' is not a role; the roles here are"),
        ("team/*=", "'' is not a role"),
        ("team=viewer", "is not an entity"),
        ("te am/*=viewer", "is not an entity"),
        ("team/*\0=viewer", "is not an entity"),
        ("team/*=vie\0wer", "is not"),
        ("\ud800/*=viewer", "is not an entity"),
        ("a/" + "x" * 1_000_000 + "=viewer", "is not an entity"),
    ],
)
async def test_what_is_no_binding_is_told(team: Opened, text: str, message: str) -> None:
    with pytest.raises(BindingInvalid, match=message) as raised:
        await team.bindings.bind(ALICE, text, by=TESTER)
    assert len(str(raised.value)) < 500
    with pytest.raises((BindingInvalid, BindingUnknown)):
        await team.bindings.unbind(ALICE, text, by=TESTER)


async def test_a_role_that_is_gone_can_still_be_unbound(team: Opened, data: AccessData, passwords: Passwords) -> None:
    custom = Opened.over(data, passwords, Roles([parse_role("publisher=environment::create")]))
    await custom.bindings.bind(ALICE, "team/*=publisher", by=TESTER)
    [row] = await team.bindings.list_all()
    assert not row.known
    await team.bindings.unbind(ALICE, "team/*=publisher", by=TESTER)
    assert await team.bindings.list_all() == []


async def test_is_granted_at_once(team: Opened, loader: PrincipalLoader) -> None:
    alice = await team.accounts.find("alice")
    for change, expected in ((team.bindings.bind(ALICE, "team/*=viewer", by=TESTER), True), (None, True)):
        if change is not None:
            await change
        loaded = await loader.load(alice.id)
        assert loaded is not None
        assert may(loaded.principal, Permission.ENVIRONMENT_READ, "team/x") is expected
    await team.bindings.unbind(ALICE, "team/*=viewer", by=TESTER)
    loaded = await loader.load(alice.id)
    assert loaded is not None
    assert not may(loaded.principal, Permission.ENVIRONMENT_READ, "team/x")


def granter(*texts: str, limits: tuple[str, ...] | None = None) -> Principal:
    def read(each: tuple[str, ...]) -> Grants:
        return Grants(parse_binding(text, Roles()) for text in each)

    return Principal("alice", "person", grants=read(texts), limits=() if limits is None else (read(limits),))


class TestNobodyGrantsWhatTheyLack:
    @pytest.mark.parametrize(
        ("has", "wanted"),
        [
            (("team/*=admin",), "team/*=admin"),
            (("team/*=admin",), "team/x=viewer"),
            (("team/*=admin",), "team/a*b*=editor"),
            (("*=admin",), "*=admin"),
            (("*=admin",), "te*m/*=admin"),
            (("t*/*=editor",), "team/*=viewer"),
            # what is in several counts together
            (("team/*=viewer", "*/x=editor"), "team/x=editor"),
        ],
    )
    def test_grants_what_they_have(self, has: tuple[str, ...], wanted: str) -> None:
        check_subset(granter(*has), parse_binding(wanted, Roles()))

    @pytest.mark.parametrize(
        ("has", "wanted"),
        [
            ((), "team/x=viewer"),
            (("team/*=editor",), "team/*=admin"),
            (("team/*=admin",), "*=viewer"),
            (("team/*=admin",), "tea*/*=viewer"),
            (("team/*=admin",), "team*/x=viewer"),
            (("team/a*=admin",), "team/*=viewer"),
            (("*/x=admin",), "*/*=viewer"),
            # an entity of a namespace is not the namespace, which a pattern for all matches
            (("team/**=admin",), "team/*=viewer"),
            (("team/a*=admin", "team/b*=admin"), "team/*=viewer"),
        ],
    )
    def test_cve_2024_41942_grants_nothing_beyond(self, has: tuple[str, ...], wanted: str) -> None:
        with pytest.raises(GrantExceeded, match="is not granted to alice"):
            check_subset(granter(*has), parse_binding(wanted, Roles()))

    def test_nor_beyond_the_limits_of_their_credentials(self) -> None:
        limited = granter("*=admin", limits=("team/*=editor",))
        check_subset(limited, parse_binding("team/x=editor", Roles()))
        for wanted in ("team/x=admin", "other/x=viewer"):
            with pytest.raises(GrantExceeded):
                check_subset(limited, parse_binding(wanted, Roles()))

    async def test_a_refused_grant_is_not_made(self, team: Opened) -> None:
        with pytest.raises(GrantExceeded, match=r"alice cannot grant team/\*=admin: audit::read on all of it"):
            await team.bindings.bind(ALICE, "team/*=admin", by=TESTER, granter=granter("team/*=editor"))
        with pytest.raises(GrantExceeded):
            await team.bindings.bind(ALICE, "team/*=viewer", by=TESTER, granter=ANONYMOUS)
        assert await team.bindings.list_all() == []


def test_whatever_a_covered_pattern_matches_the_covering_one_does() -> None:
    patterns = ["a/*", "a*/*", "*/*", "*/a", "a/a*", "a/*a", "a/b", "*/a*b", "a/**", "*a/*", "a/*a*"]
    entities = ["a", "b", "ab", "ba", "a/a", "a/b", "a/ab", "a/ba", "b/a", "ab/a", "ba/a", "a/aXb", "b/a/b", "a/aa"]
    role = Roles().find("viewer")
    covered = 0
    for one in patterns:
        for other in patterns:
            first, second = Binding(one, role), Binding(other, role)
            if first.covers(second):
                covered += 1
                assert all(first.matches(each) for each in entities if second.matches(each)), (one, other)
    assert covered > len(patterns)
