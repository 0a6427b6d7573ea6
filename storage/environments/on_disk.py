"""Which builds are directories on the disk of a server, and why others are not, as the server that keeps them says.

Where several servers keep directories of one store, the one that spoke last is heard.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database, batches
from storage.database.environment_tables import environment_build, environment_directory


@dataclass(frozen=True, slots=True)
class BuildOnDisk:
    """`path` is where the build is, or `problem` why it is nowhere: a sentence that somebody can act on."""

    path: str | None
    problem: str | None
    since: float


class BuildsOnDisk:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, build_id: int) -> BuildOnDisk | None:
        """None if no server has tried, or the directory is removed."""
        async with self._database.reading() as connection:
            return await self._find(connection, build_id)

    async def note(self, build_id: int, path: str | None, problem: str | None = None) -> None:
        """Record where a build is, or why it is not. Nothing happens if that is known, or the build is forgotten."""
        table, row = environment_directory, environment_build
        async with self._database.reading() as connection:
            known = await self._find(connection, build_id)
        if known is not None and (known.path, known.problem) == (path, problem):
            return
        async with self._database.writing() as connection:
            there = select(row.c.id).where(row.c.id == build_id).with_for_update(read=True, key_share=True)
            if (await connection.execute(there)).first() is None:
                return
            values = {"path": path, "problem": problem, "since": time.time()}
            insert = self._database.insert(table).values(build=build_id, **values)
            await connection.execute(insert.on_conflict_do_update(index_elements=["build"], set_=values))

    async def drop(self, builds: Collection[int]) -> None:
        """Record that the directories of builds are removed."""
        table = environment_directory
        for batch in batches(sorted(builds)):
            async with self._database.writing() as connection:
                await connection.execute(delete(table).where(table.c.build.in_(batch)))

    async def _find(self, connection: AsyncConnection, build_id: int) -> BuildOnDisk | None:
        table = environment_directory
        query = select(table.c.path, table.c.problem, table.c.since).where(table.c.build == build_id)
        row = (await connection.execute(query)).first()
        return BuildOnDisk(*row) if row else None


def add_problem(info: str | None, found: BuildOnDisk | None) -> str | None:
    """What is said of a build, with why it is not on disk."""
    if found is None or found.problem is None:
        return info
    return f"{info}; it is not on disk: {found.problem}" if info else f"it is not on disk: {found.problem}"
