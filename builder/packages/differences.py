"""Differences between a package's archive and its own listing, for the image's report and the prefix record.

Kinds and sizes are compared for every path. Contents are hashed only for files whose prefix is replaced: hashing every
file once more would make a cold build 16 % slower, for packages whose archives have already been verified as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

LINES = 50
"""Differences of one package that the report lists one by one."""


class PathFacts(NamedTuple):
    """What is at a path, or should be: a letter of `PackageContents.kinds`, a size in bytes, a hexadecimal sha256."""

    kind: str
    size: int | None = None
    sha256: str | None = None


@dataclass
class Differences:
    """The differences of one package."""

    found: dict[str, PathFacts] = field(default_factory=dict)
    """What the archive has, by path under the prefix."""
    _lines: list[str] = field(default_factory=list)

    def compare(self, path: str, listed: PathFacts, found: PathFacts) -> None:
        """Note the difference, if there is one. A fact that either side lacks is not compared."""
        if reason := _describe(listed, found):
            self.found[path] = found
            if len(self._lines) < LINES:
                self._lines.append(f"{path} {reason}")

    def describe(self) -> tuple[str, ...]:
        """Describe each difference in a line, up to LINES of them."""
        more = len(self.found) - len(self._lines)
        return (*self._lines, f"and {more} more paths are not as listed") if more else tuple(self._lines)


def _describe(listed: PathFacts, found: PathFacts) -> str | None:
    if listed.kind != found.kind:
        names = {"f": "a file", "s": "a symbolic link"}
        return f"is {names[found.kind]}, listed as {names[listed.kind]}"
    if found.kind != "f":
        return None
    if listed.size is not None and listed.size != found.size:
        return f"has {found.size} bytes, listed with {listed.size}"
    if listed.sha256 and found.sha256 and listed.sha256.lower() != found.sha256:
        return f"has the sha256 {found.sha256}, listed with {listed.sha256}"
    return None
