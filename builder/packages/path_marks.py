"""Marks of paths: which packages of an environment may carry the same one, without their paths.

Paths stay with the workers that read them: an environment has tens of thousands, and reading them a second time takes
as long as the first. A mark has four bytes. Two paths may have the same one, which costs another look and no more.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from zlib import crc32

from builder.packages.contents import PackageContents

MOST_COMPARED = 200_000
"""Marks that are compared at once, in some twenty milliseconds; of an environment with more, every package may share
paths with others."""


@dataclass(frozen=True)
class PathMarks:
    """Of one package. `files` has the marks of all that is installed and no directory; arrays of 32-bit integers."""

    files: array[int]
    directories: array[int]
    paths: int
    """How many it has, directories included where they are listed."""
    text: int
    """Characters that those have together."""

    @classmethod
    def of(cls, contents: PackageContents) -> PathMarks:
        return cls(
            _mark(contents.installed()),
            _mark(contents.directories),
            len(contents.targets),
            sum(map(len, contents.targets)),
        )


def _mark(paths: Iterable[str]) -> array[int]:
    return array("I", map(crc32, map(str.encode, paths)))


def find_sharing(marks: Mapping[str, PathMarks]) -> set[str]:
    """Those of the packages that may carry a path which another carries, too; by the keys of `marks`."""
    if sum(len(each.files) + len(each.directories) for each in marks.values()) > MOST_COMPARED:
        return set(marks)
    files: set[int] = set()
    directories: set[int] = set()
    shared: set[int] = set()
    for each in marks.values():
        own = set(each.files)
        shared |= files & own
        files |= own
        directories.update(each.directories)
    shared |= files & directories
    if not shared:
        return set()
    return {
        name
        for name, each in marks.items()
        if not shared.isdisjoint(each.files) or not shared.isdisjoint(each.directories)
    }
