"""The environments that somebody may see, as a condition for lists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, bindparam, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.environment_tables import environment
from storage.repositories.places import EVERYWHERE, Places

AT_A_TIME = 250
"""Environments about which it is asked whether they are seen, in about a millisecond."""


@dataclass(frozen=True)
class Scope:
    """`places` hold all repositories of the environments that are seen; `shows` leaves some of them out again."""

    places: Places = EVERYWHERE
    shows: Callable[[str], bool] | None = None
    """Whether a repository is seen; None if all in `places` are."""

    async def find_condition(self, connection: AsyncConnection) -> ColumnElement[bool] | None:
        """A condition on rows of the table of environments; None if all are seen."""
        within = self._within()
        if self.shows is None:
            return within
        query = select(environment.c.id, environment.c.repository).where(environment.c.deleted.is_(None))
        if within is not None:
            query = query.where(within)
        seen: list[int] = []
        for rows in (await connection.execute(query)).partitions(AT_A_TIME):
            seen += [row.id for row in rows if self.shows(row.repository)]
            # others have their turn: there may be many thousands
            await asyncio.sleep(0)
        # numbers of our own, written into the statement: there may be more than it may have parameters
        return environment.c.id.in_(bindparam("seen", seen, expanding=True, literal_execute=True))

    def _within(self) -> ColumnElement[bool] | None:
        if self.places == EVERYWHERE:
            return None
        conditions = list(self.places.spans(None, environment.c.repository))
        return or_(*conditions) if conditions else ~true()
