"""The builder's documents: JSON under a key in one table per kind, with the time of the last request for each."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.clock import USE_SECONDS, is_within
from storage.database import tables
from storage.database.engine import Database

Document = dict[str, Any]

LONG = 256 << 10
"""Characters of a document that is parsed in a thread."""


async def find_document(database: Database, table: Table, key: str) -> Document | None:
    async with database.reading() as connection:
        text = (await connection.execute(select(table.c.document).where(table.c.key == key))).scalar()
    if text is None:
        return None
    # the lock of very many packages takes so long that others are served meanwhile
    document: Document = await asyncio.to_thread(json.loads, text) if len(text) > LONG else json.loads(text)
    return document


async def put_document(
    connection: AsyncConnection, table: Table, key: str, lock_key: str, document: Mapping[str, Any], **columns: Any
) -> None:
    """Store a document made from a lock, replacing any earlier one with this key."""
    now = time.time()
    await connection.execute(delete(table).where(table.c.key == key))
    await connection.execute(
        table.insert().values(
            key=key, lock_key=lock_key, document=json.dumps(document), created=now, used=now, **columns
        )
    )
    await _note_lock_use(connection, lock_key)


async def note_use(database: Database, table: Table, key: str) -> None:
    """Record a request for a document and so for its lock, at most once in USE_SECONDS."""
    now = time.time()
    query = select(table.c.used, table.c.lock_key).where(table.c.key == key)
    async with database.reading() as connection:
        row = (await connection.execute(query)).first()
    if row is not None and not is_within(USE_SECONDS, row.used, now):
        async with database.writing() as connection:
            await connection.execute(update(table).where(table.c.key == key).values(used=now))
            await _note_lock_use(connection, row.lock_key)


async def _note_lock_use(connection: AsyncConnection, key: str) -> None:
    await connection.execute(update(tables.lock).where(tables.lock.c.key == key).values(used=time.time()))
