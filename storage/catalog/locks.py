"""Locks, and the lock that each request was last solved to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog.documents import Document, find_document
from storage.clock import SKEW_SECONDS, USE_SECONDS
from storage.database import tables
from storage.database.engine import Database

TAG_DIGITS = 12
"""Hex digits of a lock in tags, file names and messages."""


def write_lock_tag(lock_key: str) -> str:
    """The tag that means a lock, on demand and in environments."""
    return f"lock-{lock_key[:TAG_DIGITS]}"


@dataclass(frozen=True, slots=True)
class Resolution:
    """The lock that a request was last solved to, and when (UNIX seconds)."""

    lock_key: str
    solved: float


class Locks:
    """The tables of locks and resolutions; each method is one transaction. Documents are JSON-able."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key: str) -> Document | None:
        return await find_document(self._database, tables.lock, key)

    async def find_by_prefix(self, prefix: str, limit: int = 2) -> list[tuple[str, str]]:
        """(key, spec_key) of at most `limit` locks whose key begins with `prefix`, which must be hex digits."""
        column = tables.lock.c.key
        query = (
            select(column, tables.lock.c.spec_key)
            .where(column >= prefix, column < prefix + "g")
            .order_by(column)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [(row.key, row.spec_key) for row in await connection.execute(query)]

    async def list_of_spec(self, spec_key: str) -> list[str]:
        query = select(tables.lock.c.key).where(tables.lock.c.spec_key == spec_key).order_by(tables.lock.c.key)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def find_of_spec(self, prefix: str) -> Document | None:
        """A lock of the one spec whose key begins with `prefix` (hex digits); None if no spec matches, or several."""
        column = tables.lock.c.spec_key
        query = select(column, tables.lock.c.document).where(column >= prefix, column < prefix + "g").limit(100)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return json.loads(rows[0].document) if len({row.spec_key for row in rows}) == 1 else None

    async def list_specs(self, beginning: str, limit: int) -> list[str]:
        """A document of each spec whose documents begin with a text, in no order. It reads all locks."""
        begins = func.substr(tables.lock.c.document, 1, len(beginning)) == beginning
        query = select(func.min(tables.lock.c.document)).where(begins).group_by(tables.lock.c.spec_key).limit(limit)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def pin(self, key: str) -> None:
        """Record that a lock was requested by its own tag, so that it is deleted last when there are too many."""
        table, now = tables.lock, time.time()
        used = func.coalesce(table.c.used, 0.0)
        news = (table.c.key == key) & (table.c.pinned.is_(False) | ~used.between(now - USE_SECONDS, now + SKEW_SECONDS))
        async with self._database.reading() as connection:
            found = (await connection.execute(select(table.c.key).where(news))).first()
        if found:
            async with self._database.writing() as connection:
                await connection.execute(update(table).where(news).values(pinned=True, used=now))

    async def put_solve(
        self,
        request_key: str,
        until: str | None,
        solved: float,
        *,
        lock_key: str,
        spec_key: str,
        document: Mapping[str, Any] | str,
    ) -> None:
        """Store a lock as what the request is solved to. A later solve replaces an earlier one, never the reverse.

        The document may be JSON text already.
        """
        table = tables.resolution
        text = document if isinstance(document, str) else json.dumps(document)
        async with self._database.writing() as connection:
            await self._insert_lock(connection, lock_key, spec_key, text)
            earlier = (table.c.solved <= solved) | (table.c.solved > time.time() + SKEW_SECONDS)
            await connection.execute(delete(table).where(table.c.request_key == request_key, earlier))
            await self._insert(
                connection,
                table,
                request_key=request_key,
                spec_key=spec_key,
                until=until,
                lock_key=lock_key,
                solved=solved,
            )

    async def put(self, lock_key: str, spec_key: str, document: Mapping[str, Any]) -> None:
        """Store a lock that was not solved here."""
        await self.put_text(lock_key, spec_key, json.dumps(document))

    async def put_text(self, lock_key: str, spec_key: str, text: str) -> None:
        """As `put`, with the document as JSON text."""
        async with self._database.writing() as connection:
            await self._insert_lock(connection, lock_key, spec_key, text)

    async def _insert_lock(self, connection: AsyncConnection, key: str, spec_key: str, text: str) -> None:
        values = {"key": key, "spec_key": spec_key, "document": text, "size": len(text), "created": time.time()}
        await self._insert(connection, tables.lock, **values)

    async def find_resolution(self, request_key: str) -> Resolution | None:
        table = tables.resolution
        query = select(table.c.lock_key, table.c.solved).where(table.c.request_key == request_key)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return Resolution(row.lock_key, row.solved) if row else None

    async def find_newest_resolution(self, spec_key: str, until: str | None) -> Resolution | None:
        """The last resolution of a spec with this cut-off day, whatever else its solves depended on."""
        table = tables.resolution
        query = (
            select(table.c.lock_key, table.c.solved)
            .where(table.c.spec_key == spec_key, table.c.until.is_not_distinct_from(until))
            .order_by(table.c.solved.desc())
            .limit(1)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return Resolution(row.lock_key, row.solved) if row else None

    async def forget_resolution(self, request_key: str) -> None:
        """Delete a resolution, so that the next request is solved again."""
        async with self._database.writing() as connection:
            await connection.execute(delete(tables.resolution).where(tables.resolution.c.request_key == request_key))

    async def list_days(self, spec_key: str) -> list[str]:
        """The cut-off days that a spec was solved for, sorted."""
        table = tables.resolution
        query = select(table.c.until).where(table.c.spec_key == spec_key, table.c.until.is_not(None))
        async with self._database.reading() as connection:
            return sorted(day for day in (await connection.execute(query)).scalars() if day is not None)

    async def _insert(self, connection: AsyncConnection, table: Table, **values: Any) -> None:
        """Insert a row unless its key exists. Keys name content, so the existing row is just as good."""
        await connection.execute(self._database.insert(table).values(**values).on_conflict_do_nothing())
