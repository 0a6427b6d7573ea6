"""How what decides about access is changed, so that no process goes on believing what it remembers of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database
from storage.events.announcements import announce
from storage.events.changes import Changes

ACCESS = "//access"
"""What is marked as changed; no repository has this name."""


class AccessData:
    """The database as far as accounts, bindings and tokens are concerned, and the stamp of what memories hold of it."""

    def __init__(self, database: Database, changes: Changes) -> None:
        self.database = database
        self._changes = changes

    @property
    def stamp(self) -> int:
        """Differs after every change by any process. Whoever remembers something takes it before they read."""
        return self._changes.stamp(ACCESS)

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction after which every process asks the database anew; the first one before the block is left."""
        async with self.database.writing() as connection:
            yield connection
            await announce(connection, ACCESS)
        self._changes.mark(ACCESS)
