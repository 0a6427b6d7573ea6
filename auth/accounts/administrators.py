"""Persons who are admin of everything. Once there is one, at least one must remain."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from sqlalchemy import and_, exists, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts.account import new_id
from auth.errors import LastAdministrator
from auth.role import ADMIN
from storage.database.account_tables import account, binding, membership

EVERYTHING = "*/*"


@contextlib.asynccontextmanager
async def keeping_one(connection: AsyncConnection, *, force: bool = False) -> AsyncIterator[None]:
    """Raise LastAdministrator after a block that removed the last one, unless with `force`."""
    was_there = await has_administrator(connection)
    yield
    if was_there and not force and not await has_administrator(connection):
        raise LastAdministrator


async def add_administrator(connection: AsyncConnection, account_id: str, by: str) -> None:
    row = {"holder_kind": "account", "holder": account_id, "pattern": EVERYTHING, "role": ADMIN.name}
    await connection.execute(insert(binding).values(**row, id=new_id(), created=time.time(), created_by=by))


async def has_administrator(connection: AsyncConnection) -> bool:
    groups = select(membership.c.group_name).where(membership.c.account == account.c.id)
    held = or_(
        and_(binding.c.holder_kind == "account", binding.c.holder == account.c.id),
        and_(binding.c.holder_kind == "group", binding.c.holder.in_(groups)),
    )
    everything = exists().where(held, binding.c.pattern == EVERYTHING, binding.c.role == ADMIN.name)
    able = and_(account.c.kind == "person", account.c.disabled.is_(False))
    lasting = or_(account.c.expires.is_(None), account.c.expires > time.time())
    query = select(exists().where(able, lasting, everything))
    return bool((await connection.execute(query)).scalar())
