"""The content of a namespace."""

from __future__ import annotations

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.tables import repository

AFTER_SLASH = chr(ord("/") + 1)


async def first_repository(connection: AsyncConnection, namespace: str) -> str | None:
    """The first name of a repository in `namespace`; None if it has no repositories."""
    # a range instead of LIKE: `_` stands for itself, and the index is used
    inside = and_(repository.c.name > f"{namespace}/", repository.c.name < f"{namespace}{AFTER_SLASH}")
    query = select(repository.c.name).where(or_(repository.c.name == namespace, inside))
    return (await connection.execute(query.order_by(repository.c.name).limit(1))).scalar()
