"""The files that start an environment, kept as they are written under the prefix.

`etc/conda/env_vars.d` has variables, `conda-meta/state` too, and `etc/conda/activate.d` scripts. What they say goes
into the image's config, so it is taken from the bytes that go into the image: prefix replaced, without what another
package wins.
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
"""Where a link would lead to other such files."""

NAMED = 20
"""Packages that a line names."""

LARGEST = 1 << 20
"""Bytes of the largest file that is kept. The kernel takes no variable of more than an eighth of it."""

TOGETHER = 4 << 20
"""Bytes of all files of one package that are kept."""

MOST = 1000
"""Files of one package that are kept."""


def starts(path: str) -> bool:
    """Whether the file at `path` under the prefix is one of those."""
    folder, _, name = path.rpartition("/")
    return folder == VARIABLES or path == STATE or (folder == SCRIPTS and name.endswith(".sh"))


def has_some(directories: Collection[str]) -> bool:
    """Whether a package with these directories under the prefix may bring such files."""
    return VARIABLES in directories or SCRIPTS in directories or "conda-meta" in directories


def list_some(packages: Iterable[str]) -> str:
    """The first few of them, for a line."""
    names = sorted(set(packages))
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


class StartingFile(NamedTuple):
    """One of those files in an image: its content, or in `problem` why there is none."""

    package: str
    path: str
    content: bytes | None
    problem: str = ""


@dataclass
class StartingFiles:
    """Those of one package."""

    contents: dict[str, bytes | None] = field(default_factory=dict)
    """By path under the prefix; None for a file that is too large to be kept."""
    links: dict[str, str] = field(default_factory=dict)
    """Where links point: symbolic ones as they are written, hard ones to an absolute path."""
    more: int = 0
    """Files and links that are not kept, for there are too many."""
    _room: int = TOGETHER

    def keeping(self, path: str, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """`pieces`, unchanged; they are kept where `path` is one that starts the environment."""
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
        """Bytes as the characters of the same numbers, which JSON holds whatever they are."""
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
