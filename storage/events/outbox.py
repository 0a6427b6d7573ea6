"""The outbox: events for webhooks, kept until these have accepted them.

An event is inserted in the transaction of the change that it reports, so there is never one without the other, whenever
the server dies. Each webhook has its own rows, so one that is down does not hold up another.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import tables
from storage.database.engine import Database

T = TypeVar("T")

Record = Callable[[AsyncConnection, T], Awaitable[None]]
"""Called at the end of a change's transaction with the result that the changing method will return."""


@dataclass(frozen=True, slots=True)
class Event:
    """A JSON document for the webhook `endpoint`. Ids sort by time, and events are sent in that order."""

    endpoint: str
    id: str
    document: str


@dataclass(frozen=True, slots=True)
class Waiting:
    id: str
    document: str
    attempts: int


class Outbox:
    """Waiting events, by endpoint."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, events: Iterable[Event]) -> None:
        """Insert events in a transaction of their own."""
        async with self._database.writing() as connection:
            await insert_events(connection, events)

    async def next(self, endpoint: str, limit: int) -> list[Waiting]:
        """The first events that are due."""
        table = tables.event
        query = (
            select(table.c.id, table.c.document, table.c.attempts)
            .where(table.c.endpoint == endpoint, table.c.due <= time.time())
            .order_by(table.c.id)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [Waiting(row.id, row.document, row.attempts) for row in await connection.execute(query)]

    async def forget(self, endpoint: str, ids: Sequence[str]) -> None:
        """Delete events that the endpoint has accepted."""
        table = tables.event
        async with self._database.writing() as connection:
            await connection.execute(delete(table).where(table.c.endpoint == endpoint, table.c.id.in_(ids)))

    async def count_failure(self, endpoint: str, event_id: str, due: float) -> None:
        """Count a failed attempt, and try again no earlier than `due` (UNIX seconds)."""
        table = tables.event
        statement = update(table).where(table.c.endpoint == endpoint, table.c.id == event_id)
        async with self._database.writing() as connection:
            await connection.execute(statement.values(attempts=table.c.attempts + 1, due=due))

    async def give_up(self, before: float, endpoint: str) -> int:
        """Delete events older than `before` (UNIX seconds), and return how many."""
        table = tables.event
        statement = delete(table).where(table.c.endpoint == endpoint, table.c.created < before)
        async with self._database.writing() as connection:
            return (await connection.execute(statement)).rowcount

    async def give_up_others(self, before: float, endpoints: Collection[str]) -> int:
        """Likewise for events of webhooks that are no longer configured."""
        table = tables.event
        statement = delete(table).where(table.c.endpoint.not_in(endpoints), table.c.created < before)
        async with self._database.writing() as connection:
            return (await connection.execute(statement)).rowcount

    async def has_room(self, endpoint: str, most: int) -> bool:
        """Whether fewer than `most` events are waiting."""
        some = select(tables.event.c.id).where(tables.event.c.endpoint == endpoint).limit(most).subquery()
        async with self._database.reading() as connection:
            return int((await connection.execute(select(func.count()).select_from(some))).scalar_one()) < most


async def insert_events(connection: AsyncConnection, events: Iterable[Event]) -> None:
    """Insert events in the transaction of `connection`."""
    now = time.time()
    rows = [
        {"endpoint": each.endpoint, "id": each.id, "document": each.document, "created": now, "attempts": 0, "due": now}
        for each in events
    ]
    if rows:
        await connection.execute(tables.event.insert(), rows)
