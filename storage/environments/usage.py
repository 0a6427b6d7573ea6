"""How much of what settings limit there is now: unfinished builds, and bytes of packages."""

from __future__ import annotations

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
