"""Pages of builds: of a hundred thousand, some are found by what they are, and in an order.

A filter that few builds meet is answered by an index of it, and what is found is sorted here. Of what many meet, builds
are walked in the wanted order, from the nearer end, by an index that has all that filters ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, false, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.environment_tables import environment, environment_build
from storage.environments.lists.contents import find_directories, find_locks
from storage.environments.lists.numbers import Numbers, find_numbers
from storage.environments.lists.order import Place, place_page, sort_by
from storage.environments.lists.scope import Scope
from storage.environments.vocabulary import BuildFilter, BuildStatus, Paging

MOST_SORTED = 2_000
"""Builds that are read and sorted here."""

_COLUMNS: dict[str, ColumnElement[Any]] = {
    "id": environment_build.c.id,
    "scheduled_on": environment_build.c.scheduled,
    "started_on": environment_build.c.started,
    "ended_on": environment_build.c.ended,
}


async def find_page(
    connection: AsyncConnection, scope: Scope, which: BuildFilter, paging: Paging
) -> tuple[list[int], int]:
    """The ids of the builds in `scope` that match on one page, in the wanted order, and how many match."""
    wanted = await _read(connection, scope, which)
    row = environment_build
    count = select(func.count()).select_from(row).where(*wanted.match())
    total = int((await connection.execute(count)).scalar_one())
    place = place_page(paging, total)
    if not place.limit:
        return [], total
    if total <= MOST_SORTED:
        return await _sort(connection, wanted, paging, place), total
    query = sort_by(select(row.c.id).where(*wanted.match(walked=paging.sort)), _order(paging), place.descending)
    ids = list((await connection.execute(query.offset(place.offset).limit(place.limit))).scalars())
    return (ids if place.descending == paging.descending else ids[::-1]), total


async def find_all(connection: AsyncConnection, scope: Scope, which: BuildFilter, paging: Paging) -> list[int]:
    """The ids of all builds in `scope` that match, in the wanted order."""
    wanted = await _read(connection, scope, which)
    query = select(environment_build.c.id).where(*wanted.match())
    query = sort_by(query, _order(paging), paging.descending)
    if paging.limit is not None:
        query = query.offset(paging.offset).limit(paging.limit)
    return list((await connection.execute(query)).scalars())


@dataclass(frozen=True)
class _Wanted:
    """What is None does not matter."""

    dialect: str
    environments: Numbers | None
    locks: Numbers | None
    statuses: tuple[BuildStatus, ...]
    """All of them at once."""
    directories: Numbers | None

    def match(self, walked: str | None = None) -> Iterator[ColumnElement[bool]]:
        """Conditions on builds; `walked` is the order in which they are walked, if they are."""
        row, is_walked = environment_build, walked is not None
        yield row.c.deleted.is_(None)
        if self.environments is not None:
            yield self.environments.match(row.c.environment, self.dialect, is_walked=is_walked)
        if self.locks is not None:
            yield self.locks.match(row.c.lock_number, self.dialect, is_walked=is_walked)
        if self.directories is not None:
            yield self.directories.match(row.c.id, self.dialect, is_walked=is_walked)
        if len(set(self.statuses)) > 1:
            yield false()
        elif self.statuses:
            # SQLite would take the index of the status, which is in the order of ids, and sort what it finds there
            hides_index = self.dialect == "sqlite" and walked not in (None, "id")
            yield (row.c.status + "" if hides_index else row.c.status) == self.statuses[0]


async def _read(connection: AsyncConnection, scope: Scope, which: BuildFilter) -> _Wanted:
    return _Wanted(
        connection.dialect.name,
        await _find_environments(connection, scope, which),
        await find_locks(connection, which.packages) if which.packages else None,
        (*([which.status] if which.status else []), *([BuildStatus.COMPLETED] if which.has_image else [])),
        await find_directories(connection) if which.is_on_disk else None,
    )


async def _find_environments(connection: AsyncConnection, scope: Scope, which: BuildFilter) -> Numbers | None:
    """Those that the builds are of; None if that does not matter."""
    conditions = []
    if which.environment is not None:
        conditions.append(environment.c.id == which.environment)
    if which.namespace is not None:
        conditions.append(environment.c.namespace == which.namespace)
    if which.name is not None:
        conditions.append(environment.c.name == which.name)
    if (seen := await scope.find_condition(connection)) is not None:
        conditions.append(seen)
    if not conditions:
        return None
    return await find_numbers(connection, environment.c.id, environment.c.deleted.is_(None), *conditions)


def _order(paging: Paging) -> tuple[ColumnElement[Any], ...]:
    column = _COLUMNS[paging.sort]
    return (column,) if paging.sort == "id" else (column, environment_build.c.id)


async def _sort(connection: AsyncConnection, wanted: _Wanted, paging: Paging, place: Place) -> list[int]:
    query = select(environment_build.c.id, _COLUMNS[paging.sort].label("by")).where(*wanted.match())
    rows = sorted((row.by is None, row.by or 0, row.id) for row in await connection.execute(query))
    if paging.descending:
        rows.reverse()
    return [row[-1] for row in rows[paging.offset : paging.offset + place.limit]]
