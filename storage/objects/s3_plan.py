"""How to cut an object into the parts of a multipart upload.

The limits are those of AWS, which other stores share (S3 User Guide, "Amazon S3 multipart upload limits"): 10,000 parts
of 5 MiB to 5 GiB each; only the last may be smaller.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from storage.objects.protocol import ObjectPart

SMALLEST_PART = 5 << 20
LARGEST_PART = 5 << 30
MOST_PARTS = 10_000

COPY_SIZE = 128 << 20
"""Bytes per copy: few enough for a quick answer and for several copies at once."""

_GROWTH = 1250
"""A part has at least 1/_GROWTH of the bytes before it, so that 10,000 parts hold more than 5 TB."""

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes [start, stop) of the object `key`, which has `size` bytes."""

    key: str
    start: int
    stop: int
    size: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Copied:
    """A part that the store copies itself."""

    source: Range


@dataclass(frozen=True, slots=True)
class Streamed:
    """A part that is read and sent again, since its sources are too small to be parts."""

    sources: tuple[Range, ...]


Piece = Copied | Streamed


def part_size(first: int, written: int) -> int:
    """The size of the part that follows `written` bytes; the first parts have `first` bytes."""
    grown = -(-written // _GROWTH // _MEBIBYTE) * _MEBIBYTE
    return min(max(first, grown), LARGEST_PART)


def plan_join(parts: Sequence[ObjectPart]) -> list[Piece]:
    """Plan the pieces that concatenate to `parts`, with as few streamed bytes as possible.

    A streamed piece fits in memory: it is less than twice the smallest part, which is 5 MiB for up to 25 GB in all.
    """
    smallest = max(SMALLEST_PART, sum(part.size for part in parts) * 2 // MOST_PARTS)
    pieces: list[Piece] = []
    small: list[Range] = []
    for part in parts:
        have = sum(each.length for each in small)
        taken = _count_streamed(have, part.size, smallest)
        if taken:
            small.append(Range(part.key, 0, taken, part.size))
        if have + taken >= smallest:
            pieces.append(Streamed(tuple(small)))
            small = []
        pieces += _plan_copies(Range(part.key, taken, part.size, part.size), max(COPY_SIZE, 2 * smallest))
    if small:
        pieces.append(Streamed(tuple(small)))
    return pieces


def _count_streamed(have: int, size: int, smallest: int) -> int:
    """How many of a part's first bytes to stream after the `have` bytes; the store can copy the rest."""
    if not have and size >= smallest:
        return 0
    missing = smallest - have
    return missing if size - missing >= smallest else size


def _plan_copies(source: Range, largest: int) -> list[Piece]:
    """Cut `source` into equal ranges of at most `largest` bytes."""
    count = -(-source.length // largest)
    cuts = [source.start + source.length * index // count for index in range(count)] + [source.stop]
    return [Copied(Range(source.key, start, stop, source.size)) for start, stop in itertools.pairwise(cuts)]
