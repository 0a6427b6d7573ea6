"""Reads the audit log: the newest events first, in pages, by filters that have an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import account_tables
from storage.database.engine import Database
from storage.quotas.bounds import begins_with

MOST_EVENTS = 1000
"""The most events in one page."""


ABOUT_NAMESPACES = (
    "namespace.",
    "policy.",
    "credential.",
    "manifest.",
    "blob.",
    "image.",
    "file.",
    "tags.",
    "referrers.",
)
"""Beginnings of actions whose entity is a namespace or a repository. That of others may be an account of that name."""


TOOK_NAMESPACE = "took_namespace"
"""In the detail of `user.add`: the account was given the namespace as it was."""

_BEGINNINGS = ("namespace.delete", "user.add", "user.delete")
"""Actions after which a namespace of the name is another one."""


@dataclass(frozen=True)
class AuditFilter:
    """What to search for; None means everything. An `entity` that ends in `*` is a prefix."""

    principal: str | None = None
    action: str | None = None
    entity: str | None = None
    outcome: str | None = None
    since: float | None = None
    """UNIX seconds."""
    until: float | None = None
    namespace: str | None = None
    """What is about it, about the repository of its name, and about what is in it, since it is what it is.

    An earlier namespace of the same name was others'.
    """


@dataclass(frozen=True)
class StoredEvent:
    id: int
    time: float
    principal: str
    principal_kind: str
    token: str
    client: str
    action: str
    entity: str
    outcome: str
    request: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class AuditPage:
    events: tuple[StoredEvent, ...]
    before: int | None
    """The value of `before` for the next page, of older events; None if there are none."""


async def read_page(
    database: Database, wanted: AuditFilter = AuditFilter(), *, before: int | None = None, limit: int = 100
) -> AuditPage:
    """The newest events older than the event `before`, at most `limit`."""
    table = account_tables.audit
    limit = max(1, min(limit, MOST_EVENTS))
    query = select(table).order_by(table.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(table.c.id < before)
    for name in ("principal", "action", "outcome"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(table.c[name] == value)
    if wanted.entity is not None:
        query = query.where(
            begins_with(table.c.entity, wanted.entity[:-1])
            if wanted.entity.endswith("*")
            else table.c.entity == wanted.entity
        )
    if wanted.since is not None:
        query = query.where(table.c.time >= wanted.since)
    if wanted.until is not None:
        query = query.where(table.c.time < wanted.until)
    async with database.reading() as connection:
        if wanted.namespace is not None:
            query = query.where(_is_about(wanted.namespace), await _is_since(connection, wanted.namespace))
        rows = list(await connection.execute(query))
    events = tuple(StoredEvent(**{**row._mapping, "detail": orjson.loads(row.detail)}) for row in rows[:limit])
    return AuditPage(events, events[-1].id if len(rows) > limit else None)


def _is_about(namespace: str) -> ColumnElement[bool]:
    table = account_tables.audit
    itself = or_(*(table.c.action.startswith(each, autoescape=True) for each in ABOUT_NAMESPACES))
    return begins_with(table.c.entity, f"{namespace}/") | ((table.c.entity == namespace) & itself)


async def _is_since(connection: AsyncConnection, namespace: str) -> ColumnElement[bool]:
    """Whether an event is of the namespace that has the name now: the log itself tells when it became another."""
    table = account_tables.audit
    query = select(table.c.id, table.c.time, table.c.action, table.c.detail)
    query = query.where(table.c.entity == namespace, table.c.action.in_(_BEGINNINGS)).order_by(table.c.id.desc())
    for row in await connection.execute(query):
        if not (row.action == "user.add" and orjson.loads(row.detail).get(TOOK_NAMESPACE)):
            # what was noted before it may be written after it
            return and_(table.c.id >= row.id, table.c.time >= row.time)
    return true()
