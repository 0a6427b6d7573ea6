"""Changes to the data that decides about access; after one, no process trusts what it remembers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database
from storage.events.announcements import announce
from storage.events.changes import Changes

ACCESS = "//access"
"""The name that is marked as changed; no repository has it."""


class AccessData:
    """The tables of accounts, bindings and tokens, and the stamp for caches of them."""

    def __init__(self, database: Database, changes: Changes) -> None:
        self.database = database
        self._changes = changes

    @property
    def stamp(self) -> int:
        """Differs after every change by any process. Take it before reading what you want to remember."""
        return self._changes.stamp(ACCESS)

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction after which every process queries the database again, this one before the block ends."""
        async with self.database.writing() as connection:
            yield connection
            await announce(connection, ACCESS)
        self._changes.mark(ACCESS)

    @contextlib.asynccontextmanager
    async def changing_alone(self) -> AsyncIterator[AsyncConnection]:
        """Likewise, while no other such transaction runs: what this one reads about accounts and bindings stays true.

        For changes by people; credentials are issued too often for it.
        """
        async with self.changing() as connection:
            await self.database.lock(connection, ACCESS)
            yield connection
