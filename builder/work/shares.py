"""How many things of different sizes are shared out among workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

SMALL = 1 << 20
"""Bytes of packages below which several go to a worker at a time: a call takes as long as processing so many."""


def group_small(things: Iterable[T], measure: Callable[[T], int]) -> list[list[T]]:
    """Group what one worker makes at a time, the largest first, so that no worker starts a long one at the end.

    `measure` returns bytes. Things of equal size keep their order.
    """
    groups: list[list[T]] = []
    size = SMALL
    for thing in sorted(things, key=measure, reverse=True):
        if size >= SMALL:
            groups.append([])
            size = 0
        groups[-1].append(thing)
        size += measure(thing)
    return groups


def deal_out(things: Iterable[T], count: int, measure: Callable[[T], int]) -> list[list[T]]:
    """Divide things into at most `count` shares of about equal bytes."""
    shares: list[list[T]] = [[] for _ in range(count)]
    for position, thing in enumerate(sorted(things, key=measure, reverse=True)):
        shares[position % count].append(thing)
    return [share for share in shares if share]
