"""What only one process does at a time, whichever machine it is on, and another takes over when that one is gone."""

from __future__ import annotations

from sqlalchemy import select, update

from storage.clock import SKEW_SECONDS
from storage.database import tables
from storage.database.engine import Database
from storage.database.sql_clock import database_time


class Leases:
    """Leases by name. A holder has to take it again before it ends, by the database's clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, owner: str, seconds: float) -> bool:
        """Whether `owner` has the lease for `seconds` from now: it had it, nobody had, or the other's has ended."""
        table, now = tables.lease, database_time(self._database)
        # what ends later than a lease lasts was taken when the clock was ahead
        free = (table.c.owner == owner) | (table.c.until <= now) | (table.c.until > now + seconds + SKEW_SECONDS)
        query = select(free.label("is_free")).where(table.c.name == name)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        if row is not None and not row.is_free:
            return False
        until = now + seconds
        insert = self._database.insert(table).values(name=name, owner=owner, until=until)
        mine = insert.on_conflict_do_update(index_elements=["name"], set_={"owner": owner, "until": until}, where=free)
        async with self._database.writing() as connection:
            return (await connection.execute(mine.returning(table.c.owner))).scalar() == owner

    async def give_up(self, name: str, owner: str) -> None:
        """Let others take it at once."""
        table = tables.lease
        statement = update(table).where(table.c.name == name, table.c.owner == owner).values(until=0.0)
        async with self._database.writing() as connection:
            await connection.execute(statement)
