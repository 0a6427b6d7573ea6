"""Pages of environments: filters and orders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.environment_tables import environment, environment_build
from storage.environments.lists.contents import find_directories, find_locks
from storage.environments.lists.order import place_page, sort_by
from storage.environments.lists.scope import Scope
from storage.environments.vocabulary import BuildStatus, EnvironmentFilter, Paging

_ORDERS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "id": (environment.c.id,),
    "name": (environment.c.name, environment.c.namespace),
    "namespace": (environment.c.namespace, environment.c.name),
}


async def find_page(
    connection: AsyncConnection, scope: Scope, which: EnvironmentFilter, paging: Paging
) -> tuple[list[int], int]:
    """The ids of the environments in `scope` that match on one page, in the wanted order, and how many match."""
    conditions = await _match(connection, scope, which)
    count = select(func.count()).select_from(environment).where(*conditions)
    total = int((await connection.execute(count)).scalar_one())
    place = place_page(paging, total)
    if not place.limit:
        return [], total
    # the ids alone first: with all columns databases sort all that matches, at length
    query = sort_by(_select(conditions), _ORDERS[paging.sort], place.descending)
    ids = list((await connection.execute(query.offset(place.offset).limit(place.limit))).scalars())
    return (ids if place.descending == paging.descending else ids[::-1]), total


async def find_all(connection: AsyncConnection, scope: Scope, which: EnvironmentFilter, paging: Paging) -> list[int]:
    """The ids of all environments in `scope` that match, in the wanted order."""
    query = sort_by(_select(await _match(connection, scope, which)), _ORDERS[paging.sort], paging.descending)
    if paging.limit is not None:
        query = query.offset(paging.offset).limit(paging.limit)
    return list((await connection.execute(query)).scalars())


def _select(conditions: list[ColumnElement[bool]]) -> Select[Any]:
    return select(environment.c.id).where(*conditions)


async def _match(connection: AsyncConnection, scope: Scope, which: EnvironmentFilter) -> list[ColumnElement[bool]]:
    seen = await scope.find_condition(connection)
    conditions = [environment.c.deleted.is_(None), *_match_names(which), *([] if seen is None else [seen])]
    row = environment_build
    of_build = []
    if which.status is not None:
        of_build.append(row.c.status == which.status)
    if which.has_image:
        of_build.append(row.c.status == BuildStatus.COMPLETED)
    if which.is_on_disk:
        of_build.append((await find_directories(connection)).match(row.c.id, connection.dialect.name, is_walked=True))
    if which.packages:
        locks = await find_locks(connection, which.packages)
        of_build.append(locks.match(row.c.lock_number, connection.dialect.name, is_walked=True))
    if of_build:
        conditions.append(exists().where(row.c.id == environment.c.current_build, row.c.deleted.is_(None), *of_build))
    return conditions


def _match_names(which: EnvironmentFilter) -> Iterator[ColumnElement[bool]]:
    if which.namespace is not None:
        yield environment.c.namespace == which.namespace
    if which.name is not None:
        yield environment.c.name == which.name
    if which.search:
        text = which.search.lower()
        columns = (environment.c.name, environment.c.namespace)
        yield or_(*(func.lower(column).contains(text, autoescape=True) for column in columns))
