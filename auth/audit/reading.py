"""Reads the audit log: the newest events first, in pages, by filters that have an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, or_, select

from storage.database import account_tables
from storage.database.engine import Database

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
    """What is about it, about the repository of its name, and about what is in it."""


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
            table.c.entity.startswith(wanted.entity[:-1], autoescape=True)
            if wanted.entity.endswith("*")
            else table.c.entity == wanted.entity
        )
    if wanted.namespace is not None:
        query = query.where(_is_about(wanted.namespace))
    if wanted.since is not None:
        query = query.where(table.c.time >= wanted.since)
    if wanted.until is not None:
        query = query.where(table.c.time < wanted.until)
    async with database.reading() as connection:
        rows = list(await connection.execute(query))
    events = tuple(StoredEvent(**{**row._mapping, "detail": orjson.loads(row.detail)}) for row in rows[:limit])
    return AuditPage(events, events[-1].id if len(rows) > limit else None)


def _is_about(namespace: str) -> ColumnElement[bool]:
    table = account_tables.audit
    itself = or_(*(table.c.action.startswith(each, autoescape=True) for each in ABOUT_NAMESPACES))
    return table.c.entity.startswith(f"{namespace}/", autoescape=True) | ((table.c.entity == namespace) & itself)
