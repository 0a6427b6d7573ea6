"""Groups, who is in them, and what is left of them."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from auth.accounts.bindings import Holder
from auth.accounts.groups import Group
from auth.errors import AccountUnknown, GroupUnknown, MembershipUnknown, NameTaken, NameUnfit, WrongKind
from storage.database.account_tables import membership
from tests.support.auth.opened import TESTER, Opened


@pytest.fixture
async def science(opened: Opened) -> Opened:
    for name in ("alice", "bob"):
        await opened.add_person(name)
    await opened.groups.add("science", by=TESTER)
    return opened


async def members(opened: Opened) -> list[tuple[str, ...]]:
    return [each.members for each in await opened.groups.list_all()]


async def test_people_join_and_leave(science: Opened) -> None:
    for name in ("bob", "alice", "alice"):
        await science.groups.join("science", name, by=TESTER)
    assert await members(science) == [("alice", "bob")]
    await science.groups.leave("science", "alice", by=TESTER)
    assert await members(science) == [("bob",)]
    with pytest.raises(MembershipUnknown, match="alice is not in group science"):
        await science.groups.leave("science", "alice", by=TESTER)


async def test_robots_are_in_none(science: Opened) -> None:
    await science.accounts.add_robot("ci", by=TESTER)
    with pytest.raises(WrongKind, match="bind a role to it"):
        await science.groups.join("science", "ci", by=TESTER)


async def test_what_a_provider_said_it_alone_takes_back(science: Opened) -> None:
    alice = await science.accounts.find("alice")
    async with science.data.changing() as connection:
        row = {"account": alice.id, "group_name": "science", "source": "https://idp.example"}
        await connection.execute(insert(membership).values(**row))
    with pytest.raises(MembershipUnknown, match=r"by https://idp\.example, which alone can end it"):
        await science.groups.leave("science", "alice", by=TESTER)
    await science.groups.join("science", "alice", by=TESTER)
    assert await members(science) == [("alice",)]
    await science.groups.leave("science", "alice", by=TESTER)
    assert await members(science) == [("alice",)]


async def test_a_deleted_group_leaves_nothing_to_the_next_of_its_name(science: Opened) -> None:
    await science.groups.join("science", "alice", by=TESTER)
    await science.bindings.bind(Holder("group", "science"), "team/*=admin", by=TESTER)
    await science.groups.delete("science", by=TESTER)
    assert await science.groups.list_all() == []
    await science.groups.add("science", by=TESTER)
    assert await members(science) == [()]
    assert await science.bindings.list_all() == []


async def test_what_is_not_there_is_told(science: Opened) -> None:
    with pytest.raises(NameTaken):
        await science.groups.add("science", by=TESTER)
    with pytest.raises(NameUnfit):
        await science.groups.add("anonymous", by=TESTER)
    with pytest.raises(GroupUnknown, match="did you mean science"):
        await science.groups.join("sience", "alice", by=TESTER)
    with pytest.raises(AccountUnknown):
        await science.groups.join("science", "carol", by=TESTER)
    for name in ("s%", "scienc_", "\0"):
        with pytest.raises(GroupUnknown):
            await science.groups.delete(name, by=TESTER)
    assert [each.name for each in await science.groups.list_all()] == ["science"]
    assert isinstance((await science.groups.list_all())[0], Group)
