"""What bounds the bytes of repositories: the quotas of the settings, and the quota of each namespace.

A namespace's quota is in its row, or else the setting `namespace_quota`. It is read in the transaction that stores
something, so it holds in every process from the moment it is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.account_tables import namespace as namespace_table
from storage.errors import QuotaExceeded
from storage.glob import glob
from storage.quotas.limits import Limits
from storage.quotas.tag_limits import like

AFTER_SLASH = chr(ord("/") + 1)

NO_QUOTA = 0
"""A namespace's quota that is no limit, whatever the setting says."""


@dataclass(frozen=True)
class Bound:
    """`limit` bytes for all repositories of a `pattern` together, or else of a `namespace`."""

    limit: int
    pattern: str = ""
    namespace: str = ""
    title: str = ""
    """How to name what is bounded, if not by pattern or namespace."""
    setting: str = "quotas"
    root: str = ""
    """The repository of on-demand content, if that counts, with the files that are made."""

    @property
    def name(self) -> str:
        """What is bounded, in messages; no two bounds of a repository have the same."""
        return self.title or self.pattern or f"namespace {self.namespace}"

    @property
    def lock(self) -> str:
        """The name of the lock of all who store something within the bound."""
        return f"quota {self.pattern}" if self.pattern else f"quota of namespace {self.namespace}"

    @property
    def raising(self) -> str:
        """What an administrator does to make the limit higher."""
        if self.pattern:
            return f"raise {self.setting}"
        return f"raise it with: condery namespace quota {self.namespace} SIZE"

    def holds(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """Whether a repository is within the bound, in SQL."""
        named = like(column, self.pattern) if self.pattern else is_in_namespace(column, self.namespace)
        return or_(column == self.root, named) if self.root else named

    def refuse(self, held: int, needed: int, help: str = "", pushed: str = "") -> QuotaExceeded:  # noqa: A002 - as there
        """The error for something that does not fit."""
        return QuotaExceeded(self.name, "bytes", self.limit, needed, help or self.raising, pushed, held)

    @classmethod
    def of_pattern(cls, limit: int, pattern: str, root: str) -> Self:
        """The bound of a pattern where on-demand content is in the repository `root`."""
        return cls(limit, pattern, root=root if is_root_in(pattern, root) else "")

    @classmethod
    def of_namespace(cls, limit: int, namespace: str, root: str) -> Self:
        """The bound of a namespace where on-demand content is in the repository `root`."""
        held = root if root and namespace_of(root) == namespace else ""
        return cls(limit, namespace=namespace, setting="namespace_quota", root=held)


def is_root_in(pattern: str, root: str) -> bool:
    """Whether a pattern of repositories holds on-demand content, which is in the repository `root`."""
    # clients ask for names below the root; the content is stored in the root itself
    return bool(root) and (glob(pattern, root) or glob(pattern, f"{root}/"))


def namespace_of(repository: str) -> str:
    """The namespace of a repository: the first part of its name."""
    return repository.partition("/")[0]


def is_in_namespace(column: ColumnElement[Any], namespace: str) -> ColumnElement[bool]:
    """Whether a repository is in a namespace, in SQL: a range, since `_` stands for itself, and an index is used."""
    return or_(column == namespace, and_(column > f"{namespace}/", column < f"{namespace}{AFTER_SLASH}"))


def begins_with(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Whether a column begins with exactly `text`, in SQL.

    For columns that are not sorted by code point: there a range holds more than that, as LIKE does in SQLite, for which
    `a` and `A` are the same.
    """
    return func.substr(column, 1, len(text)) == text


async def find_bounds(connection: AsyncConnection, limits: Limits, repository: str) -> list[Bound]:
    """The bounds of a repository's bytes, in the order in which their locks are taken."""
    found = []
    quota = limits.quota(repository)
    if quota is not None and quota.bytes is not None:
        found.append(Bound.of_pattern(quota.bytes, quota.pattern, limits.root))
    if bound := await find_namespace_bound(connection, limits, namespace_of(repository)):
        found.append(bound)
    return found


async def find_namespace_bound(connection: AsyncConnection, limits: Limits, namespace: str) -> Bound | None:
    """The bound of a namespace; None if it has none."""
    table = namespace_table
    query = select(table.c.quota).where(table.c.name == namespace)
    own: int | None = (await connection.execute(query)).scalar()
    limit = limits.namespace if own is None else own
    return None if limit == NO_QUOTA else Bound.of_namespace(limit, namespace, limits.root)
