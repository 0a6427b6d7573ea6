"""Files of an image by their path under the prefix, with links followed, read from the fragments that hold them.

Every fragment that a path leads through is expanded twice, so this is for the few files that are links.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

from builder.archives import tar
from builder.archives.tar import FILE, HARD_LINK, SYMLINK
from builder.archives.tar_reader import Readable, TarReader
from builder.layers.codec import CODEC

MOST_LINKS = 40
"""Links that one path may lead through, as in Linux."""

LONGEST = 4096
"""Bytes of a link, as in Linux."""

STEPS = 200_000
"""Path components to look at in all."""


class InstalledFiles:
    """The files under `prefix`. `owners` maps every path that is not a directory to its fragment's file."""

    def __init__(self, prefix: str, owners: Mapping[str, Path]) -> None:
        self._root = prefix.strip("/") + "/"
        self._owners = owners
        self._links: dict[Path, dict[str, str]] = {}
        self._steps = STEPS

    def list_names_in(self, folder: str) -> list[str]:
        """List the names in the directory `folder`, which may be reached through links, without its subdirectories."""
        real = self.resolve(folder)
        if real is None or real in self._owners:
            return []
        start = f"{real}/"
        return [path[len(start) :] for path in self._owners if path.startswith(start) and "/" not in path[len(start) :]]

    def resolve(self, path: str) -> str | None:
        """Return the file or directory that `path` leads to, without links; None if it leaves the prefix or leads
        nowhere.

        A directory need not exist.
        """
        pending = path.split("/")[::-1]
        current: list[str] = []
        links = 0
        while pending:
            self._steps -= 1
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not current:
                    return None
                current.pop()
                continue
            here = "/".join([*current, part])
            link = self._find_link(here)
            if link is None:
                current.append(part)
                if pending and here in self._owners:
                    return None
                continue
            links += 1
            if links > MOST_LINKS or len(link) > LONGEST or self._steps < 0:
                return None
            if link.startswith("/"):
                inside = f"{link}/".removeprefix(f"/{self._root}")
                if inside.startswith("/"):
                    return None
                current, link = [], inside.rstrip("/")
            pending += link.split("/")[::-1]
        return "/".join(current)

    def read(self, paths: Iterable[str], most: int) -> dict[str, bytes | None]:
        """Read each of the resolved `paths` that is a file.

        The content is None for a file of more than `most` bytes.
        """
        by_fragment: dict[Path, set[str]] = defaultdict(set)
        for path in paths:
            if path in self._owners:
                by_fragment[self._owners[path]].add(path)
        found: dict[str, bytes | None] = {}
        for fragment, wanted in by_fragment.items():
            with _open_fragment(fragment) as members:
                for member in members:
                    name = member.name.removeprefix(self._root)
                    if member.kind == FILE and name in wanted:
                        found[name] = b"".join(map(bytes, members.chunks())) if member.size <= most else None
        return found

    def _find_link(self, path: str) -> str | None:
        fragment = self._owners.get(path)
        if fragment is None:
            return None
        if fragment not in self._links:
            self._links[fragment] = self._read_links(fragment)
        return self._links[fragment].get(path)

    def _read_links(self, fragment: Path) -> dict[str, str]:
        with _open_fragment(fragment) as members:
            return {
                member.name.removeprefix(self._root): member.link if member.kind == SYMLINK else f"/{member.link}"
                for member in members
                if member.kind in (SYMLINK, HARD_LINK)
            }


@contextlib.contextmanager
def _open_fragment(fragment: Path) -> Iterator[TarReader]:
    with open(fragment, "rb") as file, CODEC.open(file) as members:
        yield TarReader(_EndedArchive(cast(Readable, members)))


class _EndedArchive:
    """A fragment's tar members with the end-of-archive that they lack."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._end = tar.END

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._file.readinto(buffer)
        if not count:
            count = min(len(buffer), len(self._end))
            buffer[:count], self._end = self._end[:count], self._end[count:]
        return count
