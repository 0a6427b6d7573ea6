"""Leases for work that one process does at a time, on any machine; another takes over when that process is gone."""

from __future__ import annotations

from sqlalchemy import select, update

from storage.clock import SKEW_SECONDS
from storage.database import tables
from storage.database.engine import Database
from storage.database.sql_clock import database_time


class Leases:
    """Leases by name. A holder must renew its lease before it expires, by the database's clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, owner: str, seconds: float) -> bool:
        """Take or renew a lease for `seconds` from now; False if somebody else holds it."""
        table, now = tables.lease, database_time(self._database)
        # a lease that ends later than `seconds` from now was taken while the clock was ahead
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
        """Release a lease, so that others can take it at once."""
        table = tables.lease
        statement = update(table).where(table.c.name == name, table.c.owner == owner).values(until=0.0)
        async with self._database.writing() as connection:
            await connection.execute(statement)
