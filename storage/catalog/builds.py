"""Builds: attempts to make something, one row each.

An unfinished build's row is the lock of its key: the database admits one, from whichever process or machine. The row
names the `owner` that works on the build and the time of its last `heartbeat`, so that another can take over from a
dead owner. All times are the database's, so a machine with a wrong clock neither takes builds from others nor loses
its own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog.documents import Document
from storage.database import tables
from storage.database.engine import Database, batches
from storage.database.sql_clock import database_time
from storage.events.hints import hear, hint
from storage.events.outbox import Record

CHANNEL = "condery_builds"

WAITING_SECONDS = 6.0
"""For how long somebody counts as waiting in another process after that process last said so."""


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One attempt to make something; `request` is a document that the builder understands."""

    id: str
    key: str
    request: Document
    status: str
    """QUEUED, BUILDING, COMPLETED, FAILED or CANCELED."""
    owner: str
    """Empty if the owner has released the build for another to take."""
    heartbeat: float
    attempts: int
    """One more than the owners that died while they worked on it."""
    created: float
    ended: float | None
    error_kind: str | None
    error_message: str | None
    error_transient: bool | None
    made: str | None
    """The key of the image or file that a completed build made; None if an older version completed it."""
    priority: int
    waiter: str
    """Who waits for it in another process than its owner's: somebody signed in, or empty for anybody else."""
    waited: float | None
    """When another process last said so."""
    now: float
    """When the row was read (UNIX seconds by the database's clock, like all times here)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much others want a build: its priority, and its `waiter` while somebody waits in another process."""

    priority: int
    waiter: str | None


class Builds:
    """The table of builds; each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hearers: set[Callable[[], None]] = set()

    async def begin(
        self, build_id: str, key: str, request: Document, owner: str, *, priority: int = 0
    ) -> BuildRow | None:
        """Insert an unfinished build; None if the key already has one."""
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

    async def find_all(self, ids: Collection[str]) -> Mapping[str, BuildRow]:
        """Find builds by their ids; unknown ids are left out."""
        rows: dict[str, BuildRow] = {}
        async with self._database.reading() as connection:
            for batch in batches(ids):
                found = await connection.execute(self._rows().where(tables.build.c.id.in_(batch)))
                rows |= {row.id: _build_row(row) for row in found}
        return rows

    async def hear(self, tell: Callable[[], None]) -> None:
        """Call `tell` after builds end, are let go or change their priority, until the task is cancelled.

        The call comes at once for changes by this process, otherwise within a twentieth of a second while the database
        is available. Some calls are for nothing.
        """
        self._hearers.add(tell)
        try:
            await hear(self._database, CHANNEL, tell)
        finally:
            self._hearers.discard(tell)

    async def last(self, key: str) -> BuildRow | None:
        table = tables.build
        # an unfinished build is the last, even if a fast clock wrote a later time into another
        order = (table.c.ended.is_not(None), table.c.created.desc())
        async with self._database.reading() as connection:
            row = (await connection.execute(self._rows().where(table.c.key == key).order_by(*order).limit(1))).first()
        return _build_row(row) if row else None

    async def list_unfinished(self) -> list[BuildRow]:
        """All unfinished builds, the highest priority first, then the oldest."""
        table = tables.build
        query = self._rows().where(table.c.ended.is_(None)).order_by(table.c.priority.desc(), table.c.created)
        async with self._database.reading() as connection:
            return [_build_row(row) for row in await connection.execute(query)]

    async def take(self, row: BuildRow, owner: str) -> bool:
        """Make `owner` the owner of an unfinished build, unless its state has changed since `row` was read.

        It is queued until the new owner begins.
        """
        table = tables.build
        # neither a build that its owner released nor one that waited for a turn crashed that owner
        died = and_(table.c.owner != "", table.c.status == "BUILDING")
        attempts = table.c.attempts + case((died, 1), else_=0)
        statement = (
            update(table)
            .where(table.c.id == row.id, table.c.owner == row.owner, table.c.heartbeat == row.heartbeat)
            .where(table.c.ended.is_(None))
            .values(owner=owner, heartbeat=database_time(self._database), attempts=attempts, status="QUEUED")
        )
        async with self._database.writing() as connection:
            return (await connection.execute(statement)).rowcount == 1

    async def beat(self, owner: str, ids: Collection[str]) -> Mapping[str, Wanted]:
        """Send a heartbeat for these builds of `owner`; return those that are still its own."""
        table, now = tables.build, database_time(self._database)
        statement = (
            update(table)
            .where(table.c.id.in_(ids), table.c.owner == owner, table.c.ended.is_(None))
            .values(heartbeat=now)
            .returning(table.c.id, table.c.priority, case((_is_waited_for(now), table.c.waiter)).label("waiter"))
        )
        async with self._database.writing() as connection:
            return {row.id: Wanted(row.priority, row.waiter) for row in await connection.execute(statement)}

    async def note_waiting(self, waiters: Mapping[str, str]) -> None:
        """Record who waits for unfinished builds of other owners now, by the builds' ids.

        A waiter is the name of somebody signed in, or empty; nobody else takes the place of somebody signed in.
        """
        table, now = tables.build, database_time(self._database)
        ids: dict[str, list[str]] = {}
        for build_id, waiter in sorted(waiters.items()):
            ids.setdefault(waiter, []).append(build_id)
        is_free = or_(table.c.waiter == "", table.c.waited.is_(None), ~_is_waited_for(now))
        async with self._database.writing() as connection:
            for waiter, builds in ids.items():
                for batch in batches(builds):
                    these = and_(table.c.id.in_(batch), table.c.ended.is_(None), true() if waiter else is_free)
                    await connection.execute(update(table).where(these).values(waiter=waiter, waited=now))

    async def let_go(self, owner: str) -> None:
        """Release the unfinished builds of `owner`, so that others need not wait for its heartbeat to lapse."""
        table = tables.build
        statement = update(table).where(table.c.owner == owner, table.c.ended.is_(None)).values(owner="", heartbeat=0.0)
        async with self._changing() as connection:
            await connection.execute(statement)

    async def set_building(self, build_id: str, record: Record[None] | None = None) -> None:
        """Record that the work begins, and run `record` in the same transaction."""
        table = tables.build
        unfinished = (table.c.id == build_id) & table.c.ended.is_(None)
        async with self._database.writing() as connection:
            await connection.execute(update(table).where(unfinished).values(status="BUILDING"))
            if record is not None:
                await record(connection, None)

    async def set_priority(self, build_id: str, priority: int) -> bool:
        """Set the priority of an unfinished build; False if there is none."""
        table = tables.build
        unfinished = (table.c.id == build_id) & table.c.ended.is_(None)
        async with self._changing() as connection:
            done = await connection.execute(update(table).where(unfinished).values(priority=priority))
        return done.rowcount == 1

    async def complete(self, build_id: str, made: str, record: Record[None] | None = None) -> bool:
        """End a build with the key of what it made, and run `record` in the same transaction.

        Returns False and records nothing if it has already ended: somebody canceled it, or took it over and was faster.
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
        """End a build that made nothing, with the reason; otherwise like `complete`."""
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
        async with self._changing() as connection:
            done = (await connection.execute(statement)).rowcount == 1
            if done and record is not None:
                await record(connection, None)
        return done

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction, and tell all who hear once it is committed."""
        async with self._database.writing() as connection:
            yield connection
            await hint(connection, CHANNEL)
        for tell in self._hearers:
            tell()

    def _rows(self) -> Any:
        return select(tables.build, database_time(self._database).label("now"))


def _is_waited_for(now: ColumnElement[float]) -> ColumnElement[bool]:
    """Whether somebody waits in another process; a time ahead of the clock is a wrong one's, and over."""
    return tables.build.c.waited.between(now - WAITING_SECONDS, now + WAITING_SECONDS)


def _build_row(row: Any) -> BuildRow:
    values = dict(row._mapping)
    values["request"] = json.loads(values["request"])
    return BuildRow(**values)
