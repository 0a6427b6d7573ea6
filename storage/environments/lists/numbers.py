"""Sets of rows' numbers, as conditions that cost the same for each row that a database looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from sqlalchemy import ColumnElement, LargeBinary, String, bindparam, case, cast, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

FEW = 500
"""Numbers that are looked up in an index one by one. More of them are a mask, which needs no index."""

_ABSENT, _PRESENT = b"0", b"1"


@dataclass(frozen=True)
class Numbers:
    """`mask` has a byte for each number from 0, "1" if it is in the set; numbers after its end are not."""

    mask: bytes

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        found = list(numbers)
        mask = bytearray(_ABSENT) * (max(found, default=-1) + 1)
        for number in found:
            mask[number] = _PRESENT[0]
        return cls(bytes(mask))

    @cached_property
    def count(self) -> int:
        return self.mask.count(_PRESENT)

    def match(self, column: ColumnElement[Any], dialect: str, *, is_walked: bool = False) -> ColumnElement[bool]:
        """Whether the number in `column` is in the set.

        If rows are walked in an order until a page is full, databases must not collect and sort them by this instead.
        """
        if not is_walked and self.count <= FEW:
            return column.in_(self._list())
        mask = bindparam("mask", self.mask, LargeBinary, unique=True)
        if dialect == "sqlite":
            # nothing is after the end of the mask, and is less than anything
            return func.substr(mask, column + 1, 1) > literal(_ABSENT, LargeBinary)
        # of "=" PostgreSQL believes that hardly any row meets it, so that it asks for the rest row by row
        absent = _ABSENT[0]
        return case((column < len(self.mask), func.get_byte(mask, column)), else_=absent) != absent

    def _list(self) -> list[int]:
        return [number for number, byte in enumerate(self.mask) if byte == _PRESENT[0]]


async def find_numbers(
    connection: AsyncConnection, column: ColumnElement[int], *conditions: ColumnElement[bool]
) -> Numbers:
    """The numbers in a column of the rows that meet all conditions."""
    # one text: reading ten thousand rows takes longer than finding them
    query = select(func.aggregate_strings(cast(column, String), ",")).where(*conditions)
    text: str | None = (await connection.execute(query)).scalar()
    return Numbers.of(map(int, text.split(",")) if text else ())
