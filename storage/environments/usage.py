"""How much of what settings limit there is now: unfinished builds, and bytes of packages."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.environment_tables import environment, environment_build
from storage.environments.vocabulary import UNFINISHED


async def count_unfinished(connection: AsyncConnection, namespace: str, name: str | None = None) -> int:
    """The queued and running builds of a namespace, or of one environment."""
    query = select(func.count()).select_from(_BUILDS).where(*_match(namespace, name))
    return int((await connection.execute(query.where(environment_build.c.status.in_(UNFINISHED)))).scalar_one())


async def sum_sizes(connection: AsyncConnection, namespace: str, name: str | None = None) -> int:
    """Bytes of the packages of all builds of a namespace, or of one environment, that are not deleted."""
    query = select(func.coalesce(func.sum(environment_build.c.size), 0)).select_from(_BUILDS)
    return int((await connection.execute(query.where(*_match(namespace, name)))).scalar_one())


_BUILDS = environment_build.join(environment, environment.c.id == environment_build.c.environment)


def _match(namespace: str, name: str | None) -> list[ColumnElement[bool]]:
    whole = [environment.c.namespace == namespace, environment_build.c.deleted.is_(None)]
    return whole if name is None else [*whole, environment.c.name == name]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a namespace has. `size` is bytes of packages, of each lock once."""

    namespace: str
    environments: int
    builds: int
    size: int


async def sum_namespaces(connection: AsyncConnection) -> list[Usage]:
    """What each namespace has that has an environment."""
    row, alive = environment_build, environment.c.deleted.is_(None)
    # in the order of an index: of each lock only a few builds are sorted
    builds = (
        select(
            row.c.lock_number, environment.c.namespace, func.count().label("builds"), func.max(row.c.size).label("size")
        )
        .select_from(_BUILDS)
        .where(row.c.deleted.is_(None))
        .group_by(row.c.lock_number, environment.c.namespace)
        .subquery()
    )
    sums = select(builds.c.namespace, func.sum(builds.c.builds), func.sum(builds.c.size)).group_by(builds.c.namespace)
    counts = select(environment.c.namespace, func.count()).where(alive).group_by(environment.c.namespace)
    numbers = {name: int(count) for name, count in await connection.execute(counts)}
    rows = await connection.execute(sums.order_by(builds.c.namespace))
    return [Usage(name, numbers.get(name, 0), int(count), int(size)) for name, count, size in rows]
