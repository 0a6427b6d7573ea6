"""Conditional and partial requests (RFC 9110, sections 13 and 14) for content whose entity tag is its digest."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from storage.text import SPACES

_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE)

_MOST_DIGITS = 18
"""More digits than any size has; int() refuses a few thousand."""


class Span(NamedTuple):
    """The bytes [start, stop)."""

    start: int
    stop: int


def parse_range(header: str | None, size: int) -> Span | Literal["whole", "unsatisfiable"]:
    """What a Range header requests from `size` bytes.

    Several ranges, other units and invalid syntax mean the whole, as a server may answer, and for invalid syntax
    should.
    """
    found = _ONE_RANGE.fullmatch(header) if header else None
    if not found or not (found[1] or found[2]):
        return "whole"
    first, last = _number(found[1]), _number(found[2])
    if first is None:
        assert last is not None
        return Span(max(size - last, 0), size) if last > 0 and size > 0 else "unsatisfiable"
    if first >= size or (last is not None and last < first):
        # RFC 9110 calls a range that ends before it begins invalid; the distribution specification answers it with 416
        return "unsatisfiable"
    return Span(first, size if last is None else min(last + 1, size))


def matches(header: str, etag: str) -> bool:
    """Whether an If-None-Match header names the entity tag `etag` (with its quotes), by weak comparison."""
    tags = (each.strip(SPACES).removeprefix("W/") for each in header.split(","))
    return header.strip(SPACES) == "*" or etag in tags


def _number(digits: str) -> int | None:
    if not digits:
        return None
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) <= _MOST_DIGITS else 10**_MOST_DIGITS
