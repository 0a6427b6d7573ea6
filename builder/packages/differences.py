"""Where a package's archive is not what its own listing says: told in the image's report, and in the prefix record.

Kinds and sizes are compared for every path. Contents are hashed only where the prefix is replaced in them: one more
hash of everything would take a cold build 16 % longer, for packages whose archives have been verified as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

LINES = 50
"""Most differences of one package that are told one by one."""


class Lies(NamedTuple):
    """What lies at a path, or is said to: one of the letters of `PackageContents.kinds`, bytes, hexadecimal sha256."""

    kind: str
    size: int | None = None
    sha256: str | None = None


@dataclass
class Differences:
    """Those of one package."""

    found: dict[str, Lies] = field(default_factory=dict)
    """What lies there, by path under the prefix."""
    _lines: list[str] = field(default_factory=list)

    def compare(self, path: str, listed: Lies, found: Lies) -> None:
        """Note the difference, if there is one; what is not known of either is none."""
        if reason := _describe(listed, found):
            self.found[path] = found
            if len(self._lines) < LINES:
                self._lines.append(f"{path} {reason}")

    def lines(self) -> tuple[str, ...]:
        """A sentence for each, up to LINES."""
        more = len(self.found) - len(self._lines)
        return (*self._lines, f"and {more} more paths are not as listed") if more else tuple(self._lines)


def _describe(listed: Lies, found: Lies) -> str | None:
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
