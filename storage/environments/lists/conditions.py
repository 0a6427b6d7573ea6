"""Filters and orders of lists, as conditions that indexes answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, or_, select

from storage.database.environment_tables import (
    environment,
    environment_build,
    environment_directory,
    lock_package,
)
from storage.environments.vocabulary import BuildFilter, BuildStatus, EnvironmentFilter, Paging

_BUILD_COLUMNS = {
    "id": environment_build.c.id,
    "scheduled_on": environment_build.c.scheduled,
    "started_on": environment_build.c.started,
    "ended_on": environment_build.c.ended,
}


def match_environments(which: EnvironmentFilter) -> Iterator[ColumnElement[bool]]:
    """Conditions on rows of environments."""
    if which.namespace is not None:
        yield environment.c.namespace == which.namespace
    if which.name is not None:
        yield environment.c.name == which.name
    if which.search:
        text = which.search.lower()
        columns = (environment.c.name, environment.c.namespace)
        yield or_(*(func.lower(column).contains(text, autoescape=True) for column in columns))
    of_build = list(_match_current(which))
    if of_build:
        row = environment_build
        current = exists().where(row.c.id == environment.c.current_build, row.c.deleted.is_(None), *of_build)
        yield current


def _match_current(which: EnvironmentFilter) -> Iterator[ColumnElement[bool]]:
    if which.status is not None:
        yield environment_build.c.status == which.status
    if which.has_image:
        yield environment_build.c.status == BuildStatus.COMPLETED
    if which.is_on_disk:
        yield _is_on_disk()
    yield from _match_packages(which.packages)


def match_builds(which: BuildFilter) -> Iterator[ColumnElement[bool]]:
    """Conditions on rows of builds."""
    row = environment_build
    of_environment = list(_match_environment_of(which))
    if of_environment:
        yield row.c.environment.in_(select(environment.c.id).where(*of_environment))
    if which.environment is not None:
        yield row.c.environment == which.environment
    if which.status is not None:
        yield row.c.status == which.status
    if which.has_image:
        yield row.c.status == BuildStatus.COMPLETED
    if which.is_on_disk:
        yield _is_on_disk()
    yield from _match_packages(which.packages)


def _is_on_disk() -> ColumnElement[bool]:
    place = environment_directory
    return exists().where(place.c.build == environment_build.c.id, place.c.path.is_not(None))


def _match_environment_of(which: BuildFilter) -> Iterator[ColumnElement[bool]]:
    if which.namespace is not None:
        yield environment.c.namespace == which.namespace
    if which.name is not None:
        yield environment.c.name == which.name


def _match_packages(packages: tuple[str, ...]) -> Iterator[ColumnElement[bool]]:
    # a look at each build, and not a list of the locks that have a package: nearly all have python
    for name in packages:
        held = lock_package.alias()
        yield exists().where(held.c.lock_key == environment_build.c.lock_key, held.c.name == name)


def order_environments(query: Select[Any], paging: Paging) -> Select[Any]:
    """One page of environments in the wanted order."""
    names = {
        "id": (environment.c.id,),
        "name": (environment.c.name, environment.c.namespace),
        "namespace": (environment.c.namespace, environment.c.name),
    }
    return _page(query, names[paging.sort], paging)


def order_builds(query: Select[Any], paging: Paging) -> Select[Any]:
    """One page of builds in the wanted order."""
    column = _BUILD_COLUMNS[paging.sort]
    columns = (column,) if paging.sort == "id" else (column, environment_build.c.id)
    return _page(query, columns, paging)


def _page(query: Select[Any], columns: tuple[Any, ...], paging: Paging) -> Select[Any]:
    query = query.order_by(*(_direct(column, paging.descending) for column in columns))
    return query if paging.limit is None else query.offset(paging.offset).limit(paging.limit)


def _direct(column: Any, descending: bool) -> ColumnElement[Any]:
    """The order of a column. What has not begun or ended yet is the last to do so, as PostgreSQL has it by itself."""
    if not column.nullable:
        return column.desc() if descending else column.asc()  # type: ignore[no-any-return]  # a column of any type
    return column.desc().nulls_first() if descending else column.asc().nulls_last()  # type: ignore[no-any-return]
