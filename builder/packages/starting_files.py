"""The files that start an environment, kept as they are written under the prefix.

`etc/conda/env_vars.d` and `conda-meta/state` hold variables, `etc/conda/activate.d` holds scripts. Their content goes
into the image's config, so it is read from the bytes that go into the image: with the prefix replaced, and without
files that another package overwrites.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

VARIABLES = "etc/conda/env_vars.d"
SCRIPTS = "etc/conda/activate.d"
STATE = "conda-meta/state"
FOLDERS = frozenset({"etc", "etc/conda", VARIABLES, SCRIPTS})
"""Folders whose names must not be links, which would lead to other such files."""

NAMED = 20
"""Packages that a line names."""

LARGEST = 1 << 20
"""Bytes of the largest file that is kept. The kernel accepts no variable longer than an eighth of this."""

TOGETHER = 4 << 20
"""Bytes of all files that are kept of one package."""

MOST = 1000
"""Files that are kept of one package."""


def starts(path: str) -> bool:
    """Whether the file at `path` under the prefix starts the environment."""
    folder, _, name = path.rpartition("/")
    return folder == VARIABLES or path == STATE or (folder == SCRIPTS and name.endswith(".sh"))


def has_some(directories: Collection[str]) -> bool:
    """Whether a package with these directories under the prefix may have such files."""
    return VARIABLES in directories or SCRIPTS in directories or "conda-meta" in directories


def list_some(packages: Iterable[str]) -> str:
    """List the first few names for a message."""
    names = sorted(set(packages))
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


class StartingFile(NamedTuple):
    """A file that starts the environment of an image: its content, or in `problem` why there is none."""

    package: str
    path: str
    content: bytes | None
    problem: str = ""


@dataclass
class StartingFiles:
    """The starting files of one package."""

    contents: dict[str, bytes | None] = field(default_factory=dict)
    """By path under the prefix; None if the file is too large to keep."""
    links: dict[str, str] = field(default_factory=dict)
    """Targets of links: symbolic ones as written, hard ones as absolute paths."""
    more: int = 0
    """Files and links that are not kept because there are too many."""
    _room: int = TOGETHER

    def keep(self, path: str, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """Pass `pieces` on unchanged. Keep them if the file at `path` starts the environment."""
        if not self._takes(path):
            yield from pieces
            return
        kept = bytearray()
        fits = True
        for piece in pieces:
            fits = fits and len(kept) + len(piece) <= min(LARGEST, self._room)
            if fits:
                kept += piece
            yield piece
        self.contents[path] = bytes(kept) if fits else None
        self._room -= len(kept) if fits else 0

    def keep_link(self, path: str, link: str) -> None:
        if self._takes(path):
            self.links[path] = link

    def _takes(self, path: str) -> bool:
        if not starts(path):
            return False
        full = len(self.contents) + len(self.links) >= MOST
        self.more += full
        return not full

    def to_json(self) -> dict[str, Any]:
        """Write bytes as the characters with the same numbers, which JSON holds whatever they are."""
        return {
            "contents": {
                path: None if content is None else content.decode("latin-1") for path, content in self.contents.items()
            },
            "links": {path: os.fsencode(link).decode("latin-1") for path, link in self.links.items()},
            "more": self.more,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            {
                path: None if content is None else content.encode("latin-1")
                for path, content in document["contents"].items()
            },
            {path: os.fsdecode(link.encode("latin-1")) for path, link in document["links"].items()},
            document["more"],
        )
