"""Files that are watched: which content was built last, as which build, and what is wrong with the content of now."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database, batches
from storage.database.environment_tables import environment, watched_file
from storage.errors import WatchedAlready

DAY = 86400.0
GONE_SECONDS = 90 * DAY
"""For which it is remembered what a file was that is gone."""
BATCH = 500


@dataclass(frozen=True, slots=True)
class WatchedPath:
    """A file of an entry of the settings, whose path is `root`."""

    namespace: str
    root: str
    path: str

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.namespace}\0{self.path}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """`sha256` is that of the content that was built last, `changed` when this was written. Times are UNIX seconds."""

    place: WatchedPath
    environment: str | None
    sha256: str | None
    build: int | None
    error: str | None
    changed: float
    gone: float | None


class WatchedFiles:
    """Each method is one transaction, but `note_build`, which is a part of one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_of(self, namespace: str, root: str) -> dict[str, WatchedFile]:
        """The files of an entry by path, those that are gone as well."""
        row = watched_file
        query = select(row).where(row.c.namespace == namespace, row.c.root == root)
        async with self._database.reading() as connection:
            return {each.path: _read(each) for each in await connection.execute(query)}

    async def list_all(self, after: str = "") -> list[WatchedFile]:
        """The next files by their keys."""
        row = watched_file
        query = select(row).where(row.c.key > after).order_by(row.c.key).limit(BATCH)
        async with self._database.reading() as connection:
            return [_read(each) for each in await connection.execute(query)]

    async def find_other(self, place: WatchedPath, name: str) -> str | None:
        """Another file that is there and has the environment `name`."""
        row = watched_file
        query = select(row.c.path).where(
            row.c.namespace == place.namespace, row.c.environment == name, row.c.gone.is_(None), row.c.key != place.key
        )
        async with self._database.reading() as connection:
            found: str | None = (await connection.execute(query.limit(1))).scalar()
        return found

    async def find_same(self, place: WatchedPath, name: str, sha256: str) -> int | None:
        """The last build of the environment `name`, if it is of a file with the same content under another path."""
        row = watched_file
        query = (
            select(row.c.build)
            .join(environment, environment.c.last_build == row.c.build)
            .where(row.c.namespace == place.namespace, row.c.environment == name, row.c.sha256 == sha256)
            .where(environment.c.deleted.is_(None))
        )
        async with self._database.reading() as connection:
            found: int | None = (await connection.execute(query.limit(1))).scalar()
        return found

    async def note_build(
        self, connection: AsyncConnection, place: WatchedPath, name: str, sha256: str, build: int
    ) -> None:
        """Record what was built, within the transaction that records the build.

        Raises WatchedAlready if another process was faster: whoever builds the same environment has waited for it.
        """
        row = watched_file
        query = select(row.c.sha256).where(row.c.key == place.key, row.c.environment == name, row.c.error.is_(None))
        if (await connection.execute(query)).scalar() == sha256:
            raise WatchedAlready(place.path)
        await self._put(connection, place, environment=name, sha256=sha256, build=build, error=None, gone=None)

    async def note_same(self, place: WatchedPath, name: str, sha256: str, build: int | None) -> None:
        """Record that a file has the content that was built."""
        async with self._database.writing() as connection:
            await self._put(connection, place, environment=name, sha256=sha256, build=build, error=None, gone=None)

    async def note_error(self, place: WatchedPath, error: str, name: str | None = None) -> None:
        """Record why the content of now is not built; what was built stays known."""
        named = {} if name is None else {"environment": name}
        async with self._database.writing() as connection:
            await self._put(connection, place, error=error[:10_000], gone=None, **named)

    async def note_gone(self, places: Iterable[WatchedPath]) -> None:
        """Record that files are gone. Those that never were built are forgotten, and so is who has been gone long."""
        row, now = watched_file, time.time()
        keys = [each.key for each in places]
        async with self._database.writing() as connection:
            for batch in batches(keys):
                these = row.c.key.in_(batch)
                await connection.execute(delete(row).where(these, row.c.build.is_(None)))
                await connection.execute(update(row).where(these).values(gone=now, error=None))
            await connection.execute(delete(row).where(row.c.gone < now - GONE_SECONDS))

    async def _put(self, connection: AsyncConnection, place: WatchedPath, **values: Any) -> None:
        values = {"root": place.root, "changed": time.time(), **values}
        statement = self._database.insert(watched_file).values(
            key=place.key, namespace=place.namespace, path=place.path, **values
        )
        await connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=values))


def _read(row: Any) -> WatchedFile:
    place = WatchedPath(row.namespace, row.root, row.path)
    return WatchedFile(place, row.environment, row.sha256, row.build, row.error, row.changed, row.gone)
