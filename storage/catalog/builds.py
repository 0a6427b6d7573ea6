"""Builds: attempts to make something, each a row.

A build's unfinished row is the lock of its key: the database admits one, whichever process or machine it is in. The row
says who works on it (`owner`) and when that owner last gave a sign (`heartbeat`), so another may take over from the
dead. Its times are the database's: a machine whose clock is wrong neither takes what others work on nor loses its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, select, update

from storage.catalog.documents import Document
from storage.database import tables
from storage.database.engine import Database
from storage.database.sql_clock import database_time
from storage.events.outbox import Record


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One attempt to make something; `request` is the builder's own document."""

    id: str
    key: str
    request: Document
    status: str
    """QUEUED, BUILDING, COMPLETED, FAILED or CANCELED."""
    owner: str
    """Empty when its owner let it go, for whoever comes next."""
    heartbeat: float
    attempts: int
    created: float
    ended: float | None
    error_kind: str | None
    error_message: str | None
    error_transient: bool | None
    made: str | None
    """The key of the image or file that a completed build ended with; None when an older version ended it."""
    priority: int
    now: float
    """When the row was read (UNIX seconds by the database's clock, as all of the times)."""


class Builds:
    """The table of builds as methods, each one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self, build_id: str, key: str, request: Document, owner: str, *, priority: int = 0
    ) -> BuildRow | None:
        """Insert an unfinished build; None when the key has one already."""
        now = database_time(self._database)
        statement = (
            self._database.insert(tables.build)
            .values(
                id=build_id,
                key=key,
                request=json.dumps(request),
                status="QUEUED",
                owner=owner,
                heartbeat=now,
                attempts=1,
                created=now,
                priority=priority,
            )
            .on_conflict_do_nothing()
            .returning(*tables.build.c, now.label("now"))
        )
        async with self._database.writing() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return _build_row(row) if row else None

    async def find(self, build_id: str) -> BuildRow | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(self._rows().where(tables.build.c.id == build_id))).first()
        return _build_row(row) if row else None

    async def last(self, key: str) -> BuildRow | None:
        table = tables.build
        # one that runs is the last, whatever a clock that was ahead wrote into another
        order = (table.c.ended.is_not(None), table.c.created.desc())
        async with self._database.reading() as connection:
            row = (await connection.execute(self._rows().where(table.c.key == key).order_by(*order).limit(1))).first()
        return _build_row(row) if row else None

    async def unfinished(self) -> list[BuildRow]:
        """Those of the highest priority first, then the oldest."""
        table = tables.build
        query = self._rows().where(table.c.ended.is_(None)).order_by(table.c.priority.desc(), table.c.created)
        async with self._database.reading() as connection:
            return [_build_row(row) for row in await connection.execute(query)]

    async def take(self, row: BuildRow, owner: str) -> bool:
        """Make `owner` the owner of an unfinished build, unless its state changed since `row` was read."""
        table = tables.build
        # who let it go was not taken down by it
        attempts = table.c.attempts + case((table.c.owner == "", 0), else_=1)
        statement = (
            update(table)
            .where(table.c.id == row.id, table.c.owner == row.owner, table.c.heartbeat == row.heartbeat)
            .where(table.c.ended.is_(None))
            .values(owner=owner, heartbeat=database_time(self._database), attempts=attempts)
        )
        async with self._database.writing() as connection:
            return (await connection.execute(statement)).rowcount == 1

    async def beat(self, owner: str, ids: Collection[str]) -> Mapping[str, int]:
        """A sign of life for those builds of `owner`; the priorities of those that are still unfinished and its own."""
        table = tables.build
        statement = (
            update(table)
            .where(table.c.id.in_(ids), table.c.owner == owner, table.c.ended.is_(None))
            .values(heartbeat=database_time(self._database))
            .returning(table.c.id, table.c.priority)
        )
        async with self._database.writing() as connection:
            return {row.id: row.priority for row in await connection.execute(statement)}

    async def let_go(self, owner: str) -> None:
        """Leave the unfinished builds of `owner` to whoever comes next, who need not wait for its silence."""
        table = tables.build
        statement = update(table).where(table.c.owner == owner, table.c.ended.is_(None)).values(owner="", heartbeat=0.0)
        async with self._database.writing() as connection:
            await connection.execute(statement)

    async def set_building(self, build_id: str) -> None:
        table = tables.build
        unfinished = (table.c.id == build_id) & table.c.ended.is_(None)
        async with self._database.writing() as connection:
            await connection.execute(update(table).where(unfinished).values(status="BUILDING"))

    async def set_priority(self, build_id: str, priority: int) -> bool:
        """Whether there is such a build, and it is unfinished."""
        table = tables.build
        unfinished = (table.c.id == build_id) & table.c.ended.is_(None)
        async with self._database.writing() as connection:
            done = await connection.execute(update(table).where(unfinished).values(priority=priority))
        return done.rowcount == 1

    async def complete(self, build_id: str, made: str, record: Record[None] | None = None) -> bool:
        """End a build with the key of what it made, and `record` that in the same transaction.

        False, and nothing is recorded, when it has ended already: somebody canceled it, or took it over and was faster.
        """
        return await self._end(build_id, record, status="COMPLETED", made=made)

    async def fail(
        self,
        build_id: str,
        *,
        kind: str,
        message: str,
        transient: bool = False,
        canceled: bool = False,
        record: Record[None] | None = None,
    ) -> bool:
        """Likewise, with the reason for which there is nothing."""
        return await self._end(
            build_id,
            record,
            status="CANCELED" if canceled else "FAILED",
            error_kind=kind,
            error_message=message,
            error_transient=transient,
        )

    async def _end(self, build_id: str, record: Record[None] | None, **values: Any) -> bool:
        table = tables.build
        statement = (
            update(table)
            .where(table.c.id == build_id, table.c.ended.is_(None))
            .values(ended=database_time(self._database), **values)
        )
        async with self._database.writing() as connection:
            done = (await connection.execute(statement)).rowcount == 1
            if done and record is not None:
                await record(connection, None)
        return done

    def _rows(self) -> Any:
        return select(tables.build, database_time(self._database).label("now"))


def _build_row(row: Any) -> BuildRow:
    values = dict(row._mapping)
    values["request"] = json.loads(values["request"])
    return BuildRow(**values)
