"""Persons who are admin of everything. No command takes away the last of them who can sign in, now and later."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from enum import IntEnum
from typing import Any

from sqlalchemy import and_, exists, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts.account import has_expired, new_id
from auth.binding import EVERYTHING
from auth.errors import LastAdministrator
from auth.role import ADMIN
from storage.database.account_tables import account, binding, identity, membership

LOCAL = "local"
"""The source of a membership that was made here rather than by a provider at a sign-in."""


class Standing(IntEnum):
    """What can be counted on of the administrator who can be counted on most."""

    NONE = 0
    NO_SIGN_IN = 1
    """There is one, who needs a password, or a new one, first."""
    FOR_NOW = 2
    """One can sign in, until the password ends, or for as long as a provider names them in a group."""
    LASTING = 3
    """One can sign in, and is one by a word that only commands here take back."""


@contextlib.asynccontextmanager
async def keeping_one(connection: AsyncConnection, *, force: bool = False) -> AsyncIterator[None]:
    """Raise LastAdministrator after a block that left less to count on than there was, unless with `force`."""
    before = await find_standing(connection)
    yield
    if not force and await find_standing(connection) < before:
        raise LastAdministrator


async def add_administrator(connection: AsyncConnection, account_id: str, by: str) -> None:
    row = {"holder_kind": "account", "holder": account_id, "pattern": EVERYTHING, "role": ADMIN.name}
    await connection.execute(insert(binding).values(**row, id=new_id(), created=time.time(), created_by=by))


async def find_standing(connection: AsyncConnection) -> Standing:
    """How it stands with administrators; a token alone is no way to sign in, since each of them ends."""
    groups = select(membership.c.group_name).where(membership.c.account == account.c.id)
    own = and_(binding.c.holder_kind == "account", binding.c.holder == account.c.id)
    everything = binding.c.pattern == EVERYTHING, binding.c.role == ADMIN.name
    by_group = binding.c.holder_kind == "group"
    held = or_(own, and_(by_group, binding.c.holder.in_(groups)))
    held_here = or_(own, and_(by_group, binding.c.holder.in_(groups.where(membership.c.source == LOCAL))))
    connected = exists().where(identity.c.account == account.c.id)
    query = select(
        account.c.expires,
        or_(account.c.password.is_not(None), connected).label("has_way"),
        exists().where(held_here, *everything).label("is_lasting"),
    ).where(account.c.kind == "person", account.c.disabled.is_(False), exists().where(held, *everything))
    return max(map(_read_standing, await connection.execute(query)), default=Standing.NONE)


def _read_standing(row: Any) -> Standing:
    if not row.has_way or has_expired(row.expires, time.time()):
        return Standing.NO_SIGN_IN
    return Standing.LASTING if row.is_lasting and row.expires is None else Standing.FOR_NOW
