"""What only one process does at a time, whichever machine it is on, and another takes over when that one is gone."""

from __future__ import annotations

import time

from sqlalchemy import select, update

from storage.clock import SKEW_SECONDS
from storage.database import tables
from storage.database.engine import Database


class Leases:
    """Leases by name. A holder has to take it again before it ends; clocks may differ by less than a lease lasts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, owner: str, seconds: float) -> bool:
        """Whether `owner` has the lease for `seconds` from now: it had it, nobody had, or the other's has ended."""
        table, now = tables.lease, time.time()
        query = select(table.c.owner, table.c.until).where(table.c.name == name)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        # what ends later than a lease lasts was taken by a clock that was ahead
        latest = now + seconds + SKEW_SECONDS
        if row is not None and row.owner != owner and now < row.until <= latest:
            return False
        insert = self._database.insert(table).values(name=name, owner=owner, until=now + seconds)
        mine = insert.on_conflict_do_update(
            index_elements=["name"],
            set_={"owner": owner, "until": now + seconds},
            where=(table.c.owner == owner) | (table.c.until <= now) | (table.c.until > latest),
        )
        async with self._database.writing() as connection:
            return (await connection.execute(mine.returning(table.c.owner))).scalar() == owner

    async def give_up(self, name: str, owner: str) -> None:
        """Let others take it at once."""
        table = tables.lease
        statement = update(table).where(table.c.name == name, table.c.owner == owner).values(until=0.0)
        async with self._database.writing() as connection:
            await connection.execute(statement)
