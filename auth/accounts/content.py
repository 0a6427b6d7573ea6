"""The content of a namespace."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.environment_tables import environment
from storage.database.tables import repository
from storage.quotas.bounds import is_in_namespace


async def first_repository(connection: AsyncConnection, namespace: str) -> str | None:
    """The first name of a repository in `namespace`; None if it has no repositories."""
    query = select(repository.c.name).where(is_in_namespace(repository.c.name, namespace))
    return (await connection.execute(query.order_by(repository.c.name).limit(1))).scalar()


async def find_content(connection: AsyncConnection, namespace: str) -> str | None:
    """Likewise; an environment has one, even if nothing is in it yet."""
    found = await first_repository(connection, namespace)
    if found is not None:
        return found
    these = (environment.c.namespace == namespace, environment.c.deleted.is_(None))
    return (await connection.execute(select(environment.c.repository).where(*these).limit(1))).scalar()
