"""Groups of people. A role bound to a group applies to all its members."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import and_, delete, func, insert, select

from auth.accounts.administrators import LOCAL, keeping_one
from auth.accounts.bindings import unbind_all
from auth.accounts.lookup import check_group, find_of_kind, is_there
from auth.accounts.names import Names
from auth.audit.actor import Actor
from auth.audit.log import append
from auth.changing import AccessData
from auth.errors import MembershipUnknown, NameTaken
from storage.database.account_tables import account, account_group, binding, membership


@dataclass(frozen=True)
class Group:
    name: str
    created: float
    members: tuple[str, ...]
    """Names of accounts."""


class Groups:
    """The tables of groups and their members. If no group has a name, raises GroupUnknown."""

    def __init__(self, data: AccessData, names: Names) -> None:
        self._data = data
        self._names = names

    async def add(self, name: str, *, by: Actor) -> None:
        """Make a group. Raises NameUnfit, NameTaken."""
        self._names.check("a group", name)
        async with self._data.changing_alone() as connection:
            if await is_there(connection, account_group, name):
                raise NameTaken(name, "a group")
            await connection.execute(insert(account_group).values(name=name, created=time.time()))
            await append(connection, by.did("group.add", name))

    async def list_all(self) -> list[Group]:
        groups = select(account_group).order_by(account_group.c.name)
        joined = select(membership.c.group_name, account.c.name).distinct().join(account).order_by(account.c.name)
        members: dict[str, list[str]] = {}
        async with self._data.database.reading() as connection:
            for row in await connection.execute(joined):
                members.setdefault(row.group_name, []).append(row.name)
            rows = (await connection.execute(groups)).all()
        return [Group(row.name, row.created, tuple(members.get(row.name, ()))) for row in rows]

    async def delete(self, name: str, *, by: Actor, force: bool = False) -> None:
        """Delete a group with its bindings. Raises LastAdministrator, unless with `force`."""
        async with self._data.changing_alone() as connection, keeping_one(connection, force=force):
            await check_group(connection, name)
            held = and_(binding.c.holder_kind == "group", binding.c.holder == name)
            await unbind_all(connection, held, by=by)
            await connection.execute(delete(account_group).where(account_group.c.name == name))
            await append(connection, by.did("group.delete", name))

    async def join(self, name: str, person: str, *, by: Actor) -> None:
        """Add a person to a group, or do nothing if they are a member. Raises AccountUnknown, WrongKind."""
        async with self._data.changing_alone() as connection:
            await check_group(connection, name)
            found = await find_of_kind(connection, person, "person", "robots are in no groups; bind a role to it")
            row = self._data.database.insert(membership).values(account=found.id, group_name=name, source=LOCAL)
            await connection.execute(row.on_conflict_do_nothing())
            await append(connection, by.did("group.join", name, user=person))

    async def leave(self, name: str, person: str, *, by: Actor, force: bool = False) -> None:
        """End a membership that was made here. Raises AccountUnknown, MembershipUnknown, LastAdministrator."""
        async with self._data.changing_alone() as connection, keeping_one(connection, force=force):
            await check_group(connection, name)
            found = await find_of_kind(connection, person, "person")
            mine = membership.c.account == found.id, membership.c.group_name == name
            gone = await connection.execute(delete(membership).where(*mine, membership.c.source == LOCAL))
            if not gone.rowcount:
                source = (await connection.execute(select(func.min(membership.c.source)).where(*mine))).scalar()
                raise MembershipUnknown(person, name, source)
            await append(connection, by.did("group.leave", name, user=person))
