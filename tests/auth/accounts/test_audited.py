"""Every change of accounts, groups, bindings and namespaces is in the audit log, and none that was not made."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from auth.accounts.bindings import Holder
from auth.audit.actor import Actor
from auth.errors import LastAdministrator
from auth.principal import Principal
from storage.database.account_tables import audit
from tests.support.auth.opened import Opened

ALICE = Holder("account", "alice")
BY = Actor.of(Principal("root", "person", token="t1"), "192.0.2.1", "r1")


async def events(opened: Opened) -> list[tuple[str, str]]:
    async with opened.data.database.reading() as connection:
        rows = (await connection.execute(select(audit).order_by(audit.c.id))).all()
    assert {(row.principal, row.principal_kind, row.token, row.client, row.request) for row in rows} <= {
        ("root", "person", "t1", "192.0.2.1", "r1")
    }
    assert all(row.outcome == "allowed" for row in rows)
    assert "horse" not in "".join(row.detail for row in rows)
    return [(row.action, row.entity) for row in rows]


async def test_changes_are_told(opened: Opened) -> None:
    accounts, groups, bindings, namespaces = opened.accounts, opened.groups, opened.bindings, opened.namespaces
    await accounts.add_person("alice", "correct horse", by=BY)
    await accounts.add_robot("ci", by=BY)
    await accounts.set_password("alice", "battery horse", by=BY)
    await accounts.sign_out("alice", by=BY)
    await groups.add("science", by=BY)
    await groups.join("science", "alice", by=BY)
    await groups.leave("science", "alice", by=BY)
    await bindings.bind(ALICE, "team/*=viewer", by=BY)
    await bindings.unbind(ALICE, "team/*=viewer", by=BY)
    await namespaces.create("team", by=BY)
    await namespaces.set_metadata("team", {}, by=BY)
    await namespaces.set_quota("team", 1000, by=BY)
    await bindings.bind(Holder("namespace", "team"), "shared/*=viewer", by=BY)
    await bindings.bind(ALICE, "team/*=viewer", by=BY)
    await namespaces.delete("team", by=BY)
    await bindings.bind(Holder("group", "science"), "shared/*=viewer", by=BY)
    await groups.delete("science", by=BY)
    await accounts.disable("ci", "robot", by=BY)
    await accounts.enable("ci", "robot", by=BY)
    await accounts.delete("alice", by=BY)
    assert await events(opened) == [
        ("user.add", "alice"),
        ("robot.add", "ci"),
        ("user.password", "alice"),
        ("user.sign-out", "alice"),
        ("group.add", "science"),
        ("group.join", "science"),
        ("group.leave", "science"),
        ("role.bind", "team/*"),
        ("role.unbind", "team/*"),
        ("namespace.create", "team"),
        ("namespace.metadata", "team"),
        ("namespace.quota", "team"),
        ("role.bind", "shared/*"),
        ("role.bind", "team/*"),
        ("role.unbind", "shared/*"),
        ("role.unbind", "team/*"),
        ("namespace.delete", "team"),
        ("role.bind", "shared/*"),
        ("role.unbind", "shared/*"),
        ("group.delete", "science"),
        ("robot.disable", "ci"),
        ("robot.enable", "ci"),
        ("user.delete", "alice"),
    ]


async def test_who_got_which_role_is_told(opened: Opened) -> None:
    await opened.accounts.add_person("alice", None, by=BY, administrator=True)
    await opened.bindings.bind(ALICE, "team/*=developer", by=BY)
    async with opened.data.database.reading() as connection:
        details = [json.loads(row.detail) for row in await connection.execute(select(audit).order_by(audit.c.id))]
    assert details == [{"administrator": True}, {"role": "editor", "holder_kind": "account", "holder": "alice"}]


async def test_what_was_not_done_is_not_told(opened: Opened) -> None:
    await opened.accounts.add_person("alice", None, by=BY, administrator=True)
    for _ in range(2):
        # what is bound already
        await opened.bindings.bind(ALICE, "*=admin", by=BY)
        with pytest.raises(LastAdministrator):
            await opened.accounts.delete("alice", by=BY)
    assert await events(opened) == [("user.add", "alice")]
