"""Makes the principal of an account's id, with everything granted to it now.

A person has the grants of anybody, the defaults for people who signed in, the role admin in the namespace of their own
name, and the bindings of their account and their groups. A namespace can hold bindings, too: these apply to everybody
who by any of the above may update all of that namespace (`environment::update` on the namespace itself). What a
namespace's binding grants does not lead to another namespace's bindings, so there are no chains and no cycles.

A robot has the grants of anybody and the bindings of its own account, limited to what its owner has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts.account import has_expired
from auth.accounts.defaults import Defaults
from auth.accounts.lookup import has_accounts
from auth.binding import Binding
from auth.changing import AccessData
from auth.grants import Grants
from auth.permission import Permission
from auth.principal import Principal
from auth.remembered import RememberedAnswer, RememberedAnswers
from auth.role import Roles
from storage.database.account_tables import account, binding, membership

MOST_REMEMBERED = 2048
"""The most accounts to remember in a process."""

SHARING = Permission.ENVIRONMENT_UPDATE
"""Who has this permission on all of a namespace also has the namespace's own bindings."""


@dataclass(frozen=True)
class LoadedAccount:
    """What an account's credentials allow now."""

    principal: Principal
    epoch: int
    """Credentials of an earlier epoch are no longer valid."""
    expires: float | None
    """UNIX seconds from which the account or its owner is refused."""
    disabled: bool
    """Whether the account or its owner is disabled."""

    def is_refused(self, now: float) -> bool:
        return self.disabled or has_expired(self.expires, now)


class PrincipalLoader:
    """Reads what accounts may do, and remembers it until a process changes anything about access."""

    def __init__(self, data: AccessData, roles: Roles, defaults: Defaults) -> None:
        self._data = data
        self._roles = roles
        self._defaults = defaults
        self._loaded: RememberedAnswers[str, LoadedAccount] = RememberedAnswers(data, MOST_REMEMBERED)
        self._anonymous: RememberedAnswer[Principal] = RememberedAnswer(data)

    async def load(self, account_id: str) -> LoadedAccount | None:
        """None if there is no such account (any more)."""
        if (remembered := self._loaded.find(account_id)) is not None:
            return remembered
        stamp = self._data.stamp
        async with self._data.database.reading() as connection:
            loaded = await self._read(connection, account_id)
        if loaded is not None:
            self._loaded.keep(account_id, loaded, stamp)
        return loaded

    async def anonymous(self) -> Principal:
        """The principal of a request without credentials."""
        if (remembered := self._anonymous.find()) is not None:
            return remembered
        stamp = self._data.stamp
        granted = self._defaults.of_anybody(has_accounts=await self.has_accounts())
        anybody = Principal("anonymous", grants=Grants(granted))
        self._anonymous.keep(anybody, stamp)
        return anybody

    async def has_accounts(self) -> bool:
        async with self._data.database.reading() as connection:
            return await has_accounts(connection)

    async def _read(self, connection: AsyncConnection, account_id: str) -> LoadedAccount | None:
        row = (await connection.execute(select(account).where(account.c.id == account_id))).first()
        if row is None:
            return None
        if row.kind != "robot":
            bindings = await self._of_person(connection, row)
            return _read_account(row, Principal(row.name, "person", row.id, Grants(bindings)))
        bindings = (*self._defaults.of_anybody(has_accounts=True), *await self._rows(connection, _held_by(row.id)))
        principal = Principal(row.name, "robot", row.id, Grants(bindings))
        owner = await self._read(connection, row.owner) if row.owner is not None else None
        return _read_account(row, principal) if owner is None else _read_account(row, principal, owner)

    async def _of_person(self, connection: AsyncConnection, row: Any) -> tuple[Binding, ...]:
        groups = select(membership.c.group_name).where(membership.c.account == row.id)
        of_groups = and_(binding.c.holder_kind == "group", binding.c.holder.in_(groups))
        own = (
            *self._defaults.of_anybody(has_accounts=True),
            *self._defaults.of_person(row.name),
            *await self._rows(connection, or_(_held_by(row.id), of_groups)),
        )
        return (*own, *await self._of_namespaces(connection, own))

    async def _of_namespaces(self, connection: AsyncConnection, own: Iterable[Binding]) -> tuple[Binding, ...]:
        """The bindings of the namespaces in which `own` allows updating everything."""
        sharing = [each for each in own if SHARING in each.role.permissions and each.name == "*"]
        where = binding.c.holder_kind == "namespace"
        if not any("*" in each.namespace for each in sharing):
            where = and_(where, binding.c.holder.in_({each.namespace for each in sharing}))
        rows = (await connection.execute(select(binding).where(where).order_by(binding.c.id))).all()
        grants = Grants(sharing)
        return self._bindings(row for row in rows if grants.find(SHARING, row.holder))

    async def _rows(self, connection: AsyncConnection, where: ColumnElement[bool]) -> tuple[Binding, ...]:
        return self._bindings(await connection.execute(select(binding).where(where).order_by(binding.c.id)))

    def _bindings(self, rows: Iterable[Any]) -> tuple[Binding, ...]:
        """Read rows; a role that the settings no longer have grants nothing."""
        known = (row for row in rows if row.role in self._roles)
        return tuple(Binding(row.pattern, self._roles.find(row.role), _source(row)) for row in known)


def _held_by(account_id: str) -> ColumnElement[bool]:
    return and_(binding.c.holder_kind == "account", binding.c.holder == account_id)


def _source(row: Any) -> str:
    return "bound to the account" if row.holder_kind == "account" else f"bound to the {row.holder_kind} {row.holder}"


def _read_account(row: Any, principal: Principal, owner: LoadedAccount | None = None) -> LoadedAccount:
    """A robot is limited to what its `owner` has, and refused when the owner is."""
    if owner is None:
        return LoadedAccount(principal, row.epoch, row.expires, row.disabled)
    times = [each for each in (row.expires, owner.expires) if each is not None]
    return LoadedAccount(
        replace(principal, limits=(owner.principal.grants,)),
        row.epoch,
        min(times, default=None),
        row.disabled or owner.disabled,
    )
