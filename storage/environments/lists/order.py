"""Orders of lists, and the pages of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select

from storage.environments.vocabulary import Paging


@dataclass(frozen=True)
class Place:
    """`limit` rows after `offset`, as a database reads them."""

    offset: int
    limit: int
    descending: bool


def place_page(paging: Paging, total: int) -> Place:
    """Where a page of `total` rows is read: a database goes through all rows before it, so from the nearer end."""
    before = min(paging.offset, total)
    size = total - before if paging.limit is None else min(paging.limit, total - before)
    after = total - before - size
    if after < before:
        return Place(after, size, not paging.descending)
    return Place(before, size, paging.descending)


def sort_by(query: Select[Any], columns: Sequence[ColumnElement[Any]], descending: bool) -> Select[Any]:
    return query.order_by(*(_direct(column, descending) for column in columns))


def _direct(column: Any, descending: bool) -> ColumnElement[Any]:
    """The order of a column. What has not begun or ended yet is the last to do so, as PostgreSQL has it by itself."""
    if not column.nullable:
        return column.desc() if descending else column.asc()  # type: ignore[no-any-return]  # a column of any type
    return column.desc().nulls_first() if descending else column.asc().nulls_last()  # type: ignore[no-any-return]
