"""Bindings in the database: a role on a pattern of entities for an account, a group or a namespace."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts.account import new_id
from auth.accounts.administrators import keeping_one
from auth.accounts.lookup import check_group, find_account, find_namespace
from auth.audit.actor import Actor
from auth.audit.log import append
from auth.binding import Binding, check_case, parse_binding, show_pattern, split_binding
from auth.changing import AccessData
from auth.errors import BindingInvalid, BindingUnknown, GrantExceeded
from auth.principal import Principal
from auth.role import BUILT_IN, Roles, is_role_name
from storage.database.account_tables import account, binding
from storage.errors import quote

HolderKind = Literal["account", "group", "namespace"]


@dataclass(frozen=True)
class Holder:
    """The holder of a binding, by name."""

    kind: HolderKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class HeldBinding:
    """A row: `role` on `pattern` for `holder`."""

    id: str
    holder: Holder
    pattern: str
    role: str
    created: float
    created_by: str
    known: bool
    """Whether the settings have the role; otherwise it grants nothing."""

    def __str__(self) -> str:
        return f"{show_pattern(self.pattern)}={self.role}"


class HeldBindings:
    """The table of bindings. If a holder does not exist, raises AccountUnknown, GroupUnknown or NamespaceUnknown."""

    def __init__(self, data: AccessData, roles: Roles) -> None:
        self._data = data
        self._roles = roles

    async def bind(self, holder: Holder, text: str, *, by: Actor, granter: Principal | None = None) -> Binding:
        """Grant `text`, written as `ENTITY=ROLE`; an existing grant stays.

        `granter` is the principal who grants it, or None for an operator with access to the database. Raises
        BindingInvalid, GrantExceeded.
        """
        wanted = self._parse(text)
        if granter is not None:
            check_subset(granter, wanted)
        async with self._data.changing_alone() as connection:
            held = {
                "holder_kind": holder.kind,
                "holder": await _key(connection, holder),
                "pattern": wanted.pattern,
                "role": wanted.role.name,
            }
            same = select(binding.c.id).where(*(binding.c[name] == value for name, value in held.items()))
            if (await connection.execute(same)).first() is None:
                row = insert(binding).values(**held, id=new_id(), created=time.time(), created_by=by.name)
                await connection.execute(row)
                await append(connection, by.did("role.bind", wanted.pattern, **_detail(holder, wanted.role.name)))
        return wanted

    async def unbind(self, holder: Holder, text: str, *, by: Actor, force: bool = False) -> None:
        """Remove a binding. Raises BindingInvalid, BindingUnknown, and LastAdministrator unless with `force`."""
        pattern, role = self._read(text)
        async with self._data.changing_alone() as connection, keeping_one(connection, force=force):
            mine = and_(binding.c.holder_kind == holder.kind, binding.c.holder == await _key(connection, holder))
            wanted = and_(mine, binding.c.pattern == pattern, binding.c.role == role)
            if not (await connection.execute(delete(binding).where(wanted))).rowcount:
                rows = await connection.execute(select(binding).where(mine).order_by(binding.c.pattern))
                held = [f"{show_pattern(row.pattern)}={row.role}" for row in rows]
                raise BindingUnknown(f"{show_pattern(pattern)}={role}", str(holder), held)
            await append(connection, by.did("role.unbind", pattern, **_detail(holder, role)))

    async def list_all(self, holder: Holder | None = None) -> list[HeldBinding]:
        """All bindings, or those of one holder."""
        query = _with_names().order_by(binding.c.holder_kind, account.c.name, binding.c.holder, binding.c.pattern)
        async with self._data.database.reading() as connection:
            if holder is not None:
                key = await _key(connection, holder)
                query = query.where(binding.c.holder_kind == holder.kind, binding.c.holder == key)
            return [self._read_row(row) for row in await connection.execute(query)]

    def _parse(self, text: str) -> Binding:
        try:
            wanted = parse_binding(text, self._roles)
            check_case(wanted.pattern)
            return wanted
        except ValueError as error:
            raise BindingInvalid(str(error)) from None

    def _read(self, text: str) -> tuple[str, str]:
        """Read pattern and role; the settings need not have the role any more."""
        try:
            pattern, role = split_binding(text)
        except ValueError as error:
            raise BindingInvalid(str(error)) from None
        if not is_role_name(role):
            raise BindingInvalid(f"{quote(role)} is not the name of a role")
        return pattern, BUILT_IN[role].name if role in BUILT_IN else role

    def _read_row(self, row: Any) -> HeldBinding:
        holder = Holder(row.holder_kind, row.account_name or row.holder)
        known = row.role in self._roles
        return HeldBinding(row.id, holder, row.pattern, row.role, row.created, row.created_by, known)


async def unbind_all(connection: AsyncConnection, which: ColumnElement[bool], *, by: Actor) -> None:
    """Remove the bindings for which `which` holds, in a transaction of `changing_alone`."""
    for row in (await connection.execute(_with_names().where(which).order_by(binding.c.pattern))).all():
        holder = Holder(row.holder_kind, row.account_name or row.holder)
        await append(connection, by.did("role.unbind", row.pattern, **_detail(holder, row.role)))
    await connection.execute(delete(binding).where(which))


def _with_names() -> Select[Any]:
    """Select bindings, with the names of accounts that hold them."""
    held = and_(binding.c.holder_kind == "account", account.c.id == binding.c.holder)
    return select(binding, account.c.name.label("account_name")).outerjoin(account, held)


def check_subset(granter: Principal, wanted: Binding) -> None:
    """Raise GrantExceeded unless `granter` has all of `wanted` themselves, within the limits of their credentials."""
    for grants in (granter.grants, *granter.limits):
        covering = (each.role.permissions for each in grants.bindings if each.covers(wanted))
        lacking = wanted.role.permissions.difference(*covering)
        if lacking:
            raise GrantExceeded(granter.name, str(wanted), min(lacking))


def _detail(holder: Holder, role: str) -> dict[str, str]:
    return {"role": role, "holder_kind": holder.kind, "holder": holder.name}


async def _key(connection: AsyncConnection, holder: Holder) -> str:
    """The holder's key in a row."""
    if holder.kind == "account":
        return (await find_account(connection, holder.name)).id
    if holder.kind == "group":
        await check_group(connection, holder.name)
    else:
        await find_namespace(connection, holder.name)
    return holder.name
