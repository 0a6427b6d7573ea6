"""The accounts of people and robots: they are made, disabled, and deleted with everything granted to them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts.account import Account, AccountKind, new_id, read_account
from auth.accounts.administrators import Standing, add_administrator, find_standing, keeping_one
from auth.accounts.bindings import unbind_all
from auth.accounts.lookup import find_account, find_of_kind, has_accounts
from auth.accounts.names import LOGIN_NAME, Names
from auth.accounts.passwords import Passwords
from auth.accounts.taken import check_free
from auth.audit.actor import Actor
from auth.audit.log import append
from auth.audit.reading import TOOK_NAMESPACE
from auth.changing import AccessData
from auth.errors import NameTaken, NameUnfit
from storage.database.account_tables import access_token, account, binding, browser_session, refresh_token

LONGEST_DISPLAY_NAME = 255

_NOUNS: Mapping[AccountKind, str] = {"person": "user", "robot": "robot"}
"""As the audit log and the command line call them."""


class Accounts:
    """The table of accounts. If no account has a name, its methods raise AccountUnknown."""

    def __init__(self, data: AccessData, names: Names, passwords: Passwords) -> None:
        self._data = data
        self._names = names
        self._passwords = passwords

    async def add_person(
        self,
        name: str,
        password: str | None,
        *,
        by: Actor,
        display_name: str | None = None,
        administrator: bool = False,
        take_namespace: bool = False,
    ) -> Account:
        """Make an account; without a password it can only sign in through a provider.

        `take_namespace` gives the person an existing namespace of the same name. Raises NameUnfit, NameTaken,
        PasswordUnfit.
        """
        row = self._new_row("person", name, display_name=_check_display_name(display_name))
        if password is not None:
            row["password"] = await self._passwords.hash(password)
        async with self._data.changing_alone() as connection:
            if not take_namespace:
                await check_free(connection, self._names, name)
            await self._insert(connection, row)
            if administrator:
                await add_administrator(connection, row["id"], by.name)
            took = {TOOK_NAMESPACE: True} if take_namespace else {}
            await append(connection, by.did("user.add", name, administrator=administrator, **took))
            return await find_account(connection, name)

    async def add_within(self, connection: AsyncConnection, name: str, *, by: Actor) -> Account:
        """Make the account of a person without a password, in a transaction of `changing_alone`.

        Raises NameUnfit, NameTaken.
        """
        row = self._new_row("person", name)
        await check_free(connection, self._names, name)
        await self._insert(connection, row)
        await append(connection, by.did("user.add", name))
        return await find_account(connection, name)

    async def add_first(self, name: str, password: str, *, by: Actor, expires: float | None) -> Account | None:
        """Make the administrator `name` and return the account; None if there is already an account."""
        row = self._new_row("person", name, expires=expires, password=await self._passwords.hash(password))
        async with self._data.changing_alone() as connection:
            if await has_accounts(connection):
                return None
            await self._insert(connection, row)
            await add_administrator(connection, row["id"], by.name)
            await append(connection, by.did("user.add", name, administrator=True))
            return await find_account(connection, name)

    async def add_robot(
        self, name: str, *, by: Actor, owner: str | None = None, expires: float | None = None
    ) -> Account:
        """Make a robot, which may do no more than its owner and ends with them; without an owner it is the server's.

        Raises NameUnfit, NameTaken, WrongKind.
        """
        row = self._new_row("robot", name, expires=expires)
        async with self._data.changing_alone() as connection:
            if owner is not None:
                row["owner"] = (await find_of_kind(connection, owner, "person", "a robot belongs to a person")).id
            await self._insert(connection, row)
            await append(connection, by.did("robot.add", name, owner=owner))
            return await find_account(connection, name)

    async def any(self) -> bool:
        """Whether there are accounts."""
        async with self._data.database.reading() as connection:
            return await has_accounts(connection)

    async def has_administrator(self) -> bool:
        """Whether somebody who can sign in is admin of everything."""
        async with self._data.database.reading() as connection:
            return await find_standing(connection) >= Standing.FOR_NOW

    async def find(self, name: str) -> Account:
        async with self._data.database.reading() as connection:
            return await find_account(connection, name)

    async def list_all(self, kind: AccountKind | None = None) -> list[Account]:
        query = select(account).order_by(account.c.name)
        if kind is not None:
            query = query.where(account.c.kind == kind)
        async with self._data.database.reading() as connection:
            return [read_account(row) for row in await connection.execute(query)]

    async def set_password(self, name: str, password: str, *, by: Actor) -> None:
        """End everything signed in with the old password, but no access tokens. Raises PasswordUnfit, WrongKind."""
        hashed = await self._passwords.hash(password)
        async with self._data.changing_alone() as connection:
            found = await find_of_kind(connection, name, "person", "it has access tokens and no password")
            await _update(connection, found.id, password=hashed, expires=None)
            await end_sessions(connection, found.id)
            await append(connection, by.did("user.password", name))

    async def sign_out(self, name: str, *, by: Actor, tokens: bool = False) -> None:
        """End everything that is signed in, everywhere, and what `condery login` made; with `tokens` all access tokens.

        What was made with an access token ends with it.
        """
        ended = [] if tokens else [access_token.c.name.startswith(LOGIN_NAME, autoescape=True)]
        async with self._data.changing_alone() as connection:
            found = await find_account(connection, name)
            await end_sessions(connection, found.id)
            await append(connection, by.did("user.sign-out", name))
            await _revoke_tokens(connection, and_(access_token.c.account == found.id, *ended), by=by)

    async def disable(self, name: str, kind: AccountKind = "person", *, by: Actor, force: bool = False) -> None:
        """Refuse all credentials of an account and of its robots.

        Raises WrongKind, and LastAdministrator unless with `force`.
        """
        async with self._data.changing_alone() as connection, keeping_one(connection, force=force):
            found = await find_of_kind(connection, name, kind)
            await _update(connection, found.id, disabled=True)
            await end_sessions(connection, found.id)
            await append(connection, by.did(f"{_NOUNS[kind]}.disable", name))

    async def enable(self, name: str, kind: AccountKind = "person", *, by: Actor) -> None:
        """Raises WrongKind."""
        async with self._data.changing_alone() as connection:
            await _update(connection, (await find_of_kind(connection, name, kind)).id, disabled=False)
            await append(connection, by.did(f"{_NOUNS[kind]}.enable", name))

    async def delete(self, name: str, kind: AccountKind = "person", *, by: Actor, force: bool = False) -> None:
        """Delete an account with its tokens, bindings and robots, but nothing that is in the namespace of its name.

        Neither repositories there nor what was bound on them: nobody gets that name by accident while there are any.
        Raises WrongKind, and LastAdministrator unless with `force`.
        """
        async with self._data.changing_alone() as connection, keeping_one(connection, force=force):
            found = await find_of_kind(connection, name, kind)
            gone = select(account.c.id).where(or_(account.c.id == found.id, account.c.owner == found.id))
            await unbind_all(connection, and_(binding.c.holder_kind == "account", binding.c.holder.in_(gone)), by=by)
            await _revoke_tokens(connection, access_token.c.account.in_(gone), by=by)
            robots = select(account.c.name).where(account.c.owner == found.id).order_by(account.c.name)
            for robot in (await connection.execute(robots)).scalars():
                await append(connection, by.did("robot.delete", robot))
            # the database also deletes what belongs to it, robots included
            await connection.execute(delete(account).where(account.c.id == found.id))
            await append(connection, by.did(f"{_NOUNS[kind]}.delete", name))

    def _new_row(self, kind: AccountKind, name: str, **values: Any) -> dict[str, Any]:
        self._names.check("an account", name)
        return {"id": new_id(), "kind": kind, "name": name, "created": time.time(), **values}

    async def _insert(self, connection: AsyncConnection, row: dict[str, Any]) -> None:
        taken = (await connection.execute(select(account.c.kind).where(account.c.name == row["name"]))).scalar()
        if taken is not None:
            raise NameTaken(row["name"], f"a {taken}")
        await connection.execute(insert(account).values(**row))


async def _update(connection: AsyncConnection, account_id: str, **values: Any) -> None:
    await connection.execute(update(account).where(account.c.id == account_id).values(**values))


async def _revoke_tokens(connection: AsyncConnection, which: ColumnElement[bool], *, by: Actor) -> None:
    """End the access tokens for which `which` holds, of those that have not ended."""
    table, now = access_token, time.time()
    holds = and_(which, table.c.revoked.is_(None), or_(table.c.expires.is_(None), table.c.expires > now))
    owned = select(table.c.id, table.c.name, account.c.name.label("owner")).join(
        account, account.c.id == table.c.account
    )
    rows = (await connection.execute(owned.where(holds).order_by(account.c.name, table.c.name))).all()
    await connection.execute(update(table).where(holds).values(revoked=now))
    for row in rows:
        await append(connection, by.did("token.revoke", row.owner, id=row.id, name=row.name))


async def end_sessions(connection: AsyncConnection, account_id: str) -> None:
    """End everything that is signed in, but no access tokens, in a transaction of `changing_alone`."""
    await _update(connection, account_id, epoch=account.c.epoch + 1)
    for table in (refresh_token, browser_session):
        await connection.execute(delete(table).where(table.c.account == account_id))


def _check_display_name(text: str | None) -> str | None:
    if text is not None and not (text.isprintable() and len(text) <= LONGEST_DISPLAY_NAME):
        raise NameUnfit("a person", text, f"at most {LONGEST_DISPLAY_NAME} characters, all of them printable")
    return text
