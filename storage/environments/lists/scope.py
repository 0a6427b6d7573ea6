"""The environments that somebody may see, as a condition for lists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from sqlalchemy import ColumnElement, and_, bindparam, false, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.environment_tables import environment

AT_A_TIME = 250
"""Environments about which it is asked whether they are seen, in about a millisecond."""
MOST_PATTERNS = 32
"""Patterns with a `*` somewhere that the database compares with each name. Of more, `shows` finds out faster."""
MOST_NAMES = 5_000
"""Namespaces and repositories in one statement."""


@dataclass(frozen=True)
class Area:
    """What one of some patterns `namespace/name` matches, in which `*` stands for any characters."""

    namespaces: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Self | None:
        """None is everything."""
        namespaces, repositories, others = list[str](), list[str](), list[str]()
        for pattern in patterns:
            namespace, _, name = pattern.partition("/")
            if pattern == "*/*":
                return None
            if "*" not in pattern:
                repositories.append(pattern)
            elif name == "*" and "*" not in namespace:
                namespaces.append(namespace)
            else:
                others.append(pattern)
        return cls(tuple(sorted(namespaces)), tuple(sorted(repositories)), tuple(sorted(others)))

    @property
    def is_short(self) -> bool:
        """Whether a statement can say it."""
        return len(self.others) <= MOST_PATTERNS and len(self.namespaces) + len(self.repositories) <= MOST_NAMES

    def write(self, dialect: str) -> ColumnElement[bool]:
        """As a condition on rows of environments."""
        conditions = [_match(pattern, dialect) for pattern in self.others]
        if self.namespaces:
            conditions.append(environment.c.namespace.in_(self.namespaces))
        if self.repositories:
            conditions.append(environment.c.repository.in_(self.repositories))
        return or_(false(), *conditions)


@dataclass(frozen=True)
class Scope:
    """The environments whose repositories are in all `areas`; `shows` tells of a repository whether it is.

    `shows` is asked where an area has too many patterns for a statement.
    """

    areas: tuple[Area, ...] = ()
    shows: Callable[[str], bool] | None = None

    @classmethod
    def of(cls, granted: Iterable[Iterable[str]], shows: Callable[[str], bool] | None = None) -> Self:
        """What one pattern of each of `granted` matches."""
        return cls(tuple(area for area in map(Area.of, granted) if area is not None), shows)

    async def find_condition(self, connection: AsyncConnection) -> ColumnElement[bool] | None:
        """A condition on rows of the table of environments; None if all are seen."""
        dialect = connection.dialect.name
        within = [area.write(dialect) for area in self.areas if area.is_short]
        if len(within) == len(self.areas):
            return and_(*within) if within else None
        assert self.shows is not None, "an area with many patterns"
        query = select(environment.c.id, environment.c.repository).where(environment.c.deleted.is_(None), *within)
        seen: list[int] = []
        for rows in (await connection.execute(query)).partitions(AT_A_TIME):
            seen += [row.id for row in rows if self.shows(row.repository)]
            # others have their turn: there may be many thousands
            await asyncio.sleep(0)
        # numbers of our own, written into the statement: there may be more than it may have parameters
        return environment.c.id.in_(bindparam("seen", seen, expanding=True, literal_execute=True))


def _match(pattern: str, dialect: str) -> ColumnElement[bool]:
    """Whether a repository matches. It has one slash, as the pattern has, or it does not match.

    SQLite's LIKE does not tell capitals from small letters, and PostgreSQL has no GLOB.
    """
    if dialect == "sqlite":
        escaped = pattern.replace("[", "[[]").replace("?", "[?]")
        return environment.c.repository.op("GLOB", is_comparison=True)(escaped)
    escaped = pattern.replace("!", "!!").replace("%", "!%").replace("_", "!_").replace("*", "%")
    return environment.c.repository.like(escaped, escape="!")
