"""Namespaces are made and deleted, and what is deleted does not come back with the name."""

from __future__ import annotations

import pytest
from sqlalchemy import func, insert, select

from auth.accounts.account import new_id
from auth.accounts.bindings import Holder
from auth.errors import MetadataInvalid, NamespaceInUse, NamespaceOfServer, NamespaceUnknown, NameTaken, NameUnfit
from storage.database.account_tables import binding, credential
from storage.database.tables import repository
from tests.support.auth.opened import TESTER, Opened


async def test_made_listed_and_described(opened: Opened) -> None:
    for name in ("team", "lab"):
        await opened.namespaces.create(name, by=TESTER)
    assert [each.name for each in await opened.namespaces.list_all()] == ["lab", "team"]
    await opened.namespaces.set_metadata("team", {"cost-centre": 12, "note": "für alle"}, by=TESTER)
    found = await opened.namespaces.find("team")
    assert (found.created_by, found.metadata) == ("operator", {"cost-centre": 12, "note": "für alle"})
    assert (await opened.namespaces.find("lab")).metadata == {}


async def test_what_is_wrong_is_told(opened: Opened) -> None:
    await opened.namespaces.create("team", by=TESTER)
    with pytest.raises(NameTaken):
        await opened.namespaces.create("team", by=TESTER)
    for name in ("on-demand", "mirror", "Team", "t%", "te\0am"):
        with pytest.raises(NameUnfit):
            await opened.namespaces.create(name, by=TESTER)
    with pytest.raises(NamespaceUnknown, match="did you mean team"):
        await opened.namespaces.find("teem")
    with pytest.raises(NamespaceUnknown):
        await opened.namespaces.delete("t_am", by=TESTER)
    with pytest.raises(MetadataInvalid, match="larger than"):
        await opened.namespaces.set_metadata("team", {"note": "x" * 100_000}, by=TESTER)
    with pytest.raises(MetadataInvalid, match="not JSON serializable"):
        await opened.namespaces.set_metadata("team", {"note": object()}, by=TESTER)


async def test_a_deleted_one_leaves_nothing_to_the_next_of_its_name(opened: Opened) -> None:
    for name in ("team", "team2"):
        await opened.namespaces.create(name, by=TESTER)
    await opened.add_person("alice")
    alice, team = Holder("account", "alice"), Holder("namespace", "team")
    for holder, text in (
        (alice, "team/*=admin"),
        (alice, "team/x=viewer"),
        (team, "shared/*=viewer"),
        (alice, "team2/*=viewer"),
        (alice, "te*m/*=viewer"),
        (alice, "team-x/*=viewer"),
    ):
        await opened.bindings.bind(holder, text, by=TESTER)
    async with opened.data.changing() as connection:
        for name in ("team", "team2"):
            secret = {"kind": "channel", "address": "https://c", "secret": "s", "created": 1.0, "created_by": "alice"}
            await connection.execute(insert(credential).values(id=name, namespace=name, **secret))
    await opened.namespaces.delete("team", by=TESTER)
    left = [str(each) for each in await opened.bindings.list_all()]
    assert left == ["te*m/*=viewer", "team-x/*=viewer", "team2/*=viewer"]
    async with opened.data.database.reading() as connection:
        assert (await connection.execute(select(func.count()).select_from(credential))).scalar() == 1
    assert [each.name for each in await opened.namespaces.list_all()] == ["team2"]


async def test_bindings_on_what_only_sorts_or_compares_alike_stay(opened: Opened) -> None:
    """As a collation has it in which a and A are one letter, and as SQLite's LIKE does."""
    await opened.namespaces.create("team", by=TESTER)
    others = ["TEAM/*", "Team/x", "team.a/*", "team0/*", "te_m/*", "teamx/*"]
    row = {"holder_kind": "namespace", "holder": "lab", "role": "viewer", "created": 1.0, "created_by": ""}
    async with opened.data.changing() as connection:
        for pattern in [*others, "team/*", "team/ä", "team/zzz", "team/~"]:
            await connection.execute(insert(binding).values(id=new_id(), pattern=pattern, **row))
    await opened.namespaces.delete("team", by=TESTER)
    assert sorted(each.pattern for each in await opened.bindings.list_all()) == sorted(others)


@pytest.mark.parametrize("name", ["on-demand", "mirror"])
async def test_one_of_the_server_is_not_deleted(opened: Opened, name: str) -> None:
    await opened.namespaces.set_quota(name, 5, by=TESTER)
    with pytest.raises(NamespaceOfServer, match=f"condery namespace quota {name} default"):
        await opened.namespaces.delete(name, by=TESTER)
    assert await opened.namespaces.find_quota(name) == 5


async def test_one_with_repositories_is_not_deleted(opened: Opened) -> None:
    await opened.namespaces.create("team", by=TESTER)
    async with opened.data.database.writing() as connection:
        await connection.execute(insert(repository).values(name="team/app", created=1.0))
    with pytest.raises(NamespaceInUse, match="namespace team holds repositories, such as team/app"):
        await opened.namespaces.delete("team", by=TESTER)
    assert [each.name for each in await opened.namespaces.list_all()] == ["team"]
