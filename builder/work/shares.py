"""What workers are given at a time, of many things of different sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

SMALL = 1 << 20
"""Bytes of packages below which what is made of them is made several at a time: asking a worker takes as long."""


def group_small(things: Iterable[T], measure: Callable[[T], int]) -> list[list[T]]:
    """What one worker makes at a time; the largest first, so that none is left alone with a long one at the end.

    `measure` gives bytes; things that have as many stay in their order.
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
    """At most `count` shares of about the same number of bytes."""
    shares: list[list[T]] = [[] for _ in range(count)]
    for position, thing in enumerate(sorted(things, key=measure, reverse=True)):
        shares[position % count].append(thing)
    return [share for share in shares if share]
