"""The repositories that are environments', known in memory, so that a request's kind is found without waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import NoReturn

from sqlalchemy import func, select

from storage.background import in_background
from storage.database.engine import Database
from storage.database.environment_tables import environment
from storage.errors import StorageError
from storage.events.hints import TICK_SECONDS, hear

CHANNEL = "condery_environments"


class EnvironmentNames:
    """What this process knows of them. Another process's changes arrive within a twentieth of a second.

    Until then a pull reads what is stored, and a push is refused by the transaction that would store it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()
        self._version: tuple[int, ...] | None = None
        self._changes = 0
        """How often this process has changed them."""
        self._listeners: list[Callable[[], None]] = []

    def __contains__(self, repository: str) -> bool:
        return repository in self._known

    def listen(self, tell: Callable[[], None]) -> None:
        """Call `tell` after each change."""
        self._listeners.append(tell)

    def add(self, repository: str) -> None:
        self._known.add(repository)
        self._note_change()

    def discard(self, repository: str) -> None:
        self._known.discard(repository)
        self._note_change()

    def _note_change(self) -> None:
        self._changes += 1
        self._version = None
        self._tell()

    def _tell(self) -> None:
        for tell in self._listeners:
            tell()

    async def load(self) -> None:
        """Read the names if they have changed since."""
        alive = environment.c.deleted.is_(None)
        # not times or the newest id alone: of two transactions the one that began later may end earlier
        numbers = (
            func.count(),
            func.coalesce(func.sum(environment.c.id), 0),
            func.coalesce(func.max(environment.c.id), 0),
        )
        newest = select(*numbers).where(alive)
        query = select(environment.c.repository).where(alive)
        while True:
            before = self._changes
            async with self._database.reading() as connection:
                version = tuple(int(each) for each in (await connection.execute(newest)).one())
                if version == self._version:
                    return
                known = set((await connection.execute(query)).scalars())
            if before == self._changes:
                break
        self._known, self._version = known, version
        self._tell()

    async def follow(self) -> NoReturn:
        """Read them again whenever another process may have changed them, until the task is cancelled."""
        changed = asyncio.Event()
        async with in_background(hear(self._database, CHANNEL, changed.set)):
            while True:
                await changed.wait()
                changed.clear()
                with contextlib.suppress(StorageError):
                    await self.load()
                # many changes of other rows come one after the other
                await asyncio.sleep(TICK_SECONDS)
