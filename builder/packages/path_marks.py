"""Marks show which packages may contain the same path, without the paths themselves.

Paths stay with the workers that read them: an environment has tens of thousands, and reading them a second time takes
as long as the first. A mark has four bytes. Two paths may have the same mark; that costs a second look and nothing
more.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from zlib import crc32

from builder.packages.contents import PackageContents

MOST_COMPARED = 200_000
"""Marks to compare at once, which takes some twenty milliseconds. With more, any package is taken to share paths."""


@dataclass(frozen=True)
class PathMarks:
    """The marks of one package, as arrays of 32-bit integers.

    `files` covers everything installed except directories.
    """

    files: array[int]
    directories: array[int]
    paths: int
    """How many paths the package has, including directories that it lists."""
    text: int
    """Characters in those paths."""

    @classmethod
    def of(cls, contents: PackageContents) -> PathMarks:
        return cls(
            _mark(contents.list_installed()),
            _mark(contents.directories),
            len(contents.targets),
            sum(map(len, contents.targets)),
        )


def _mark(paths: Iterable[str]) -> array[int]:
    return array("I", map(crc32, map(str.encode, paths)))


def find_sharing(marks: Mapping[str, PathMarks]) -> set[str]:
    """Find the packages that may share a path with another one, by the keys of `marks`."""
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
