"""Builds: attempts to make something, each a row.

A build's unfinished row is the lock of its key: the database admits one, whichever process or machine it is in. The row
says who works on it (`owner`) and when that owner last gave a sign (`heartbeat`), so another may take over from the
dead.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from storage.catalog.documents import Document
from storage.database import tables
from storage.database.engine import Database
from storage.events.outbox import Record


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One attempt to make something; `request` is the builder's own document."""

    id: str
    key: str
    request: Document
    status: str
    owner: str
    heartbeat: float
    attempts: int
    created: float
    ended: float | None
    error_kind: str | None
    error_message: str | None
    error_transient: bool | None


class Builds:
    """The table of builds as methods, each one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, build_id: str, key: str, request: Document, owner: str) -> BuildRow | None:
        """Insert an unfinished build; None when the key has one already."""
        now = time.time()
        row = BuildRow(build_id, key, request, "QUEUED", owner, now, 1, now, None, None, None, None)
        statement = tables.build.insert().values(
            id=build_id,
            key=key,
            request=json.dumps(request),
            status=row.status,
            owner=owner,
            heartbeat=now,
            attempts=1,
            created=now,
        )
        try:
            async with self._database.writing() as connection:
                await connection.execute(statement)
        except IntegrityError:
            return None
        return row

    async def last(self, key: str) -> BuildRow | None:
        table = tables.build
        # one that runs is the last, whatever a clock that was ahead wrote into another
        order = (table.c.ended.is_not(None), table.c.created.desc())
        query = select(table).where(table.c.key == key).order_by(*order).limit(1)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return _build_row(row) if row else None

    async def unfinished(self) -> list[BuildRow]:
        query = select(tables.build).where(tables.build.c.ended.is_(None)).order_by(tables.build.c.created)
        async with self._database.reading() as connection:
            return [_build_row(row) for row in await connection.execute(query)]

    async def take(self, row: BuildRow, owner: str) -> bool:
        """Make `owner` the owner of an unfinished build, unless its state changed since `row` was read."""
        table = tables.build
        statement = (
            update(table)
            .where(table.c.id == row.id, table.c.owner == row.owner, table.c.heartbeat == row.heartbeat)
            .where(table.c.ended.is_(None))
            .values(owner=owner, heartbeat=time.time(), attempts=table.c.attempts + 1)
        )
        async with self._database.writing() as connection:
            return (await connection.execute(statement)).rowcount == 1

    async def beat(self, owner: str) -> None:
        """A sign of life for all unfinished builds of `owner`."""
        table = tables.build
        statement = update(table).where(table.c.owner == owner, table.c.ended.is_(None)).values(heartbeat=time.time())
        async with self._database.writing() as connection:
            await connection.execute(statement)

    async def set_building(self, build_id: str) -> None:
        table = tables.build
        async with self._database.writing() as connection:
            await connection.execute(update(table).where(table.c.id == build_id).values(status="BUILDING"))

    async def end(
        self,
        build_id: str,
        *,
        kind: str | None = None,
        message: str | None = None,
        transient: bool = False,
        record: Record[None] | None = None,
    ) -> None:
        """Completed, or failed when `kind` is given; `record` belongs to the same transaction."""
        table = tables.build
        statement = (
            update(table)
            .where(table.c.id == build_id)
            .values(
                status="FAILED" if kind else "COMPLETED",
                ended=time.time(),
                error_kind=kind,
                error_message=message,
                error_transient=transient if kind else None,
            )
        )
        async with self._database.writing() as connection:
            await connection.execute(statement)
            if record is not None:
                await record(connection, None)


def _build_row(row: Any) -> BuildRow:
    values = dict(row._mapping)
    values["request"] = json.loads(values["request"])
    return BuildRow(**values)
