"""The cache of unpacked packages: what hard links of environments lead to.

  <data>/packages/<archive key>/<number>        a file of the package, read-only, by its row in the listing
  <data>/packages/<archive key>/contents.json   what the package installs, and what each of its files must be

Files have numbers for names, so nothing that a package says leads anywhere here. A package is there whole or not at
all. A file that is not as it was unpacked (somebody wrote into an environment, or the power was cut) makes the package
count as absent; it is unpacked anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from builder.canonical import make_key
from builder.locks.lock import LockedPackage
from builder.packages.bounded_json import JsonRefused, load_trusted
from builder.packages.contents import EntryPoint, PackageContents, Placeholder
from builder.packages.differences import PathFacts
from storage.disk.files import mark_used

FORMAT = 1
"""Part of every package's key: raise it when the same archive must be unpacked differently."""

CONTENTS = "contents.json"

Stored = int | str | None
"""A row's file by its number, the target of its symbolic link, or None for a directory."""


@dataclass(frozen=True)
class StoredFile:
    """What a file must be: `size` in bytes, `modified` in nanoseconds, and whether it is executable."""

    size: int
    modified: int
    executable: bool

    def is_still(self, status: os.stat_result) -> bool:
        return status.st_size == self.size and status.st_mtime_ns == self.modified


@dataclass(frozen=True)
class CachedPackage:
    """An unpacked package. `contents` are as in its archive, without a python's layout."""

    folder: Path
    contents: PackageContents
    stored: Sequence[Stored]
    """By row of `contents`. Rows that are hard links to each other have one file."""
    files: Mapping[int, StoredFile]
    found: Mapping[str, PathFacts]
    """By path in the archive: what it has there where its listing is wrong."""

    def path(self, number: int) -> str:
        return f"{self.folder}/{number}"

    def to_json(self) -> dict[str, Any]:
        contents = self.contents
        return {
            "format": FORMAT,
            "sources": contents.sources,
            "kinds": contents.kinds,
            "sizes": contents.sizes,
            "sha256": contents.sha256,
            "placeholders": [[index, *each] for index, each in contents.placeholders.items()],
            "no_link": sorted(contents.no_link),
            "directories": contents.directories,
            "entry_points": [list(entry) for entry in contents.entry_points],
            "link_scripts": contents.link_scripts,
            "timestamp": contents.timestamp,
            "noarch": contents.noarch,
            "stored": self.stored,
            "files": [[number, each.size, each.modified, each.executable] for number, each in self.files.items()],
            "found": {path: list(facts) for path, facts in self.found.items()},
        }


def locate(packages: Path, package: LockedPackage) -> Path:
    """The package's folder in the cache `packages`, whether it is there or not."""
    return packages / make_key("unpacked package", [FORMAT, package.archive_key])


def is_cached(packages: Path, package: LockedPackage) -> bool:
    """Whether the package is there, and mark that it is used."""
    path = locate(packages, package) / CONTENTS
    mark_used(path)
    return path.exists()


def read_cached(packages: Path, package: LockedPackage) -> CachedPackage | None:
    """Read a package's listing. Returns None if it is not there, or broken."""
    folder = locate(packages, package)
    with contextlib.suppress(OSError, JsonRefused, KeyError, TypeError, ValueError):
        return _read(folder, str(package), load_trusted((folder / CONTENTS).read_bytes()))
    return None


def _read(folder: Path, name: str, document: Mapping[str, Any]) -> CachedPackage:
    contents = PackageContents(
        package=name,
        sources=document["sources"],
        targets=document["sources"],
        kinds=document["kinds"],
        sizes=document["sizes"],
        sha256=document["sha256"],
        placeholders={index: Placeholder(text, mode) for index, text, mode in document["placeholders"]},
        no_link=frozenset(document["no_link"]),
        directories=document["directories"],
        entry_points=[EntryPoint(*entry) for entry in document["entry_points"]],
        link_scripts=document["link_scripts"],
        timestamp=document["timestamp"],
        noarch=document["noarch"],
    )
    files = {number: StoredFile(*rest) for number, *rest in document["files"]}
    found = {path: PathFacts(*facts) for path, facts in document["found"].items()}
    return CachedPackage(folder, contents, document["stored"], files, found)


def write_contents(package: CachedPackage) -> bytes:
    """The content of CONTENTS."""
    plain = replace(package.contents, targets=package.contents.sources)
    return orjson.dumps(replace(package, contents=plain).to_json())
