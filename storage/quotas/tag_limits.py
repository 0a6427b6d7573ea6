"""What limits say about tags, as of a transaction.

Apart from the limits themselves, which are settings: every command reads them, and few need a database.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import tables
from storage.database.engine import Database
from storage.digest import Digest
from storage.errors import QuotaExceeded, TagTaken
from storage.quotas.limits import Limits
from storage.quotas.protection import Protection, find_document, protect


async def find_protection(limits: Limits, connection: AsyncConnection, repository: str) -> Protection:
    """What must not be moved or deleted in a repository, as of this transaction."""
    return protect(repository, limits.immutable, limits.no_delete, await find_document(connection, repository))


async def check_tags(
    limits: Limits,
    database: Database,
    connection: AsyncConnection,
    repository: str,
    digest: Digest | None,
    tags: Sequence[str],
    *,
    moves: bool = True,
) -> None:
    """Check that `tags` may point to `digest`, which may not be known yet.

    Without `moves` none may point to something else by now. Raises TagImmutable, TagTaken, QuotaExceeded.
    """
    if not tags:
        return
    table = tables.tag
    query = select(table.c.name, table.c.digest).where(table.c.repository == repository, table.c.name.in_(tags))
    present = {row.name: row.digest for row in await connection.execute(query)}
    moved = [tag for tag, meant in present.items() if digest is not None and meant != digest]
    if moved:
        (await find_protection(limits, connection, repository)).check_change(moved)
    if moved and not moves:
        raise TagTaken(repository, moved[0])
    quota = limits.quota(repository)
    new = len(set(tags) - present.keys())
    if quota and quota.tags is not None and new:
        await database.lock(connection, f"quota {quota.pattern}")
        count = select(func.count()).where(like(table.c.repository, quota.pattern))
        held = int((await connection.execute(count)).scalar_one())
        if held + new > quota.tags:
            raise QuotaExceeded(quota.pattern, "tags", quota.tags, held + new, "delete some of them")


def like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """`matches` in SQL. GLOB and LIKE differ between databases, and LIKE's wildcard `_` is allowed in names."""
    text = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
    return column.like(text, escape="\\")
