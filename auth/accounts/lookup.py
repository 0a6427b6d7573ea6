"""Accounts, groups and namespaces by name, within a transaction; errors suggest similar names."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts.account import Account, AccountKind, read_account
from auth.accounts.names import is_name, near_names
from auth.errors import AccountUnknown, GroupUnknown, NamespaceUnknown, WrongKind
from storage.database.account_tables import account, account_group, namespace

MOST_COMPARED = 1000
"""The most names to search for a similar one."""


async def has_accounts(connection: AsyncConnection) -> bool:
    return bool((await connection.execute(select(exists().select_from(account)))).scalar())


async def find_account(connection: AsyncConnection, name: str) -> Account:
    """Find an account. Raises AccountUnknown."""
    row = await _find(connection, account, name)
    if row is None:
        raise AccountUnknown(name, await _near(connection, account.c.name, name))
    return read_account(row)


async def find_of_kind(connection: AsyncConnection, name: str, kind: AccountKind, why: str = "") -> Account:
    """Raises AccountUnknown, and WrongKind with `why` for an account of another kind."""
    found = await find_account(connection, name)
    if found.kind != kind:
        raise WrongKind(name, found.kind, why or f"this is for a {kind}")
    return found


async def check_group(connection: AsyncConnection, name: str) -> None:
    """Check that a group exists. Raises GroupUnknown."""
    if await _find(connection, account_group, name) is None:
        raise GroupUnknown(name, await _near(connection, account_group.c.name, name))


async def find_namespace(connection: AsyncConnection, name: str) -> Any:
    """Find a namespace's row. Raises NamespaceUnknown."""
    row = await _find(connection, namespace, name)
    if row is None:
        raise NamespaceUnknown(name, await _near(connection, namespace.c.name, name))
    return row


async def is_there(connection: AsyncConnection, table: Table, name: str) -> bool:
    """Whether a row of `table` has this name."""
    return await _find(connection, table, name) is not None


async def _find(connection: AsyncConnection, table: Table, name: str) -> Any:
    # databases do not accept every character
    if not is_name(name):
        return None
    return (await connection.execute(select(table).where(table.c.name == name))).first()


async def _near(connection: AsyncConnection, column: Column[Any], name: str) -> list[str]:
    some = await connection.execute(select(column).order_by(column).limit(MOST_COMPARED))
    return near_names(name, some.scalars())
