"""Where names of repositories are looked for, so that a list of few among many does not read all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Self

from sqlalchemy import ColumnElement, exists, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import tables
from storage.database.engine import batches

MOST_BEGINNINGS = 64
"""Each takes a query; whoever has more of them reads all names in less time."""


@dataclass(frozen=True)
class Places:
    """Some names, and all names that begin with some texts. None of them is in another."""

    names: tuple[str, ...]
    beginnings: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str], beginnings: Iterable[str]) -> Self:
        kept: list[str] = []
        for each in sorted(set(beginnings)):
            if not kept or not each.startswith(kept[-1]):
                kept.append(each)
        if len(kept) > MOST_BEGINNINGS:
            kept = [""]
        return cls(tuple(sorted(each for each in set(names) if not each.startswith(tuple(kept)))), tuple(kept))

    @property
    def cost(self) -> int:
        """Of two sets of places, the one to look in has less of it."""
        return 1 << 32 if "" in self.beginnings else len(self.names) + len(self.beginnings)

    def spans(
        self, last: str | None, column: ColumnElement[str] = tables.repository.c.name
    ) -> Iterator[ColumnElement[bool]]:
        """Conditions on names, each about names that follow those of the one before, and all about names after
        `last`."""
        texts = sorted([*((name, False) for name in self.names), *((each, True) for each in self.beginnings)])
        for is_beginning, group in groupby(texts, key=lambda each: each[1]):
            if is_beginning:
                for text, _ in group:
                    if last is None:
                        yield _begins(column, text)
                    elif not text:
                        yield column > last
                    elif last < _end_of(text):
                        yield _begins(column, text) & (column > last)
            else:
                for names in batches(name for name, _ in group if last is None or name > last):
                    yield column.in_(names)


EVERYWHERE = Places((), ("",))

_FILLED = (
    select(tables.repository.c.name)
    .where(exists().where(tables.repository_manifest.c.repository == tables.repository.c.name))
    .order_by(tables.repository.c.name)
)
"""Once, since putting it together takes longer than reading a short page."""


async def list_names(connection: AsyncConnection, last: str | None, most: int, places: Places) -> list[str]:
    """At most `most` names of repositories that have a manifest, in `places` and after `last`, sorted by code point."""
    found: list[str] = []
    for condition in places.spans(last):
        query = _FILLED.where(condition).limit(most - len(found))
        found += (await connection.execute(query)).scalars()
        if len(found) >= most:
            break
    return found


def _begins(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    return (column >= text) & (column < _end_of(text)) if text else true()


def _end_of(beginning: str) -> str:
    """The least text that is greater than all that begin with `beginning`."""
    return beginning[:-1] + chr(ord(beginning[-1]) + 1)
