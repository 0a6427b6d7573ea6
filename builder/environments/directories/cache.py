"""The cache of unpacked packages: what hard links of environments lead to.

  <data>/packages/<key>/<number>        a file of the package, read-only, by its row in the listing
  <data>/packages/<key>/contents.json   where the package's paths go
  <data>/packages/<key>/files.json      what each of them must be

Files have numbers for names, so nothing that a package says leads anywhere here. A package is there whole or not at
all. A file that is not as it was unpacked (somebody wrote into an environment, or the power was cut) makes the package
count as absent; it is unpacked anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson

from builder.canonical import make_key
from builder.locks.lock import LockedPackage
from builder.packages.bounded_json import JsonRefused, load_trusted
from builder.packages.contents import PackageContents
from builder.packages.differences import PathFacts
from builder.packages.inspection import recall_contents
from builder.packages.wheels.placement import write_facts
from storage.disk.files import mark_used, temporary_directory

T = TypeVar("T")

FORMAT = 1
"""Part of every package's key: raise it when the same archive must be unpacked differently."""

CONTENTS, FILES = "contents.json", "files.json"

Stored = int | str | None
"""A row's file by its number, the target of its symbolic link, or None for a directory."""


@dataclass
class StoredFiles:
    """What the rows of a package's listing are in the cache, in columns of equal length."""

    stored: list[Stored]
    """Rows that are hard links to each other have one file."""
    sizes: list[int]
    """Bytes of the file of this number; 0 where the row has no file of its own."""
    modified: list[int]
    """Its time in nanoseconds."""
    executable: list[bool]
    found: Mapping[str, PathFacts] = field(default_factory=dict)
    """By path in the archive: what it has there where its listing is wrong."""

    @classmethod
    def empty(cls, rows: int) -> Self:
        return cls([None] * rows, [0] * rows, [0] * rows, [False] * rows)

    def is_still(self, number: int, status: os.stat_result) -> bool:
        """Whether a file is as it was unpacked."""
        return status.st_size == self.sizes[number] and status.st_mtime_ns == self.modified[number]


def locate(packages: Path, package: LockedPackage) -> Path:
    """The package's folder in the cache `packages`, whether it is there or not."""
    # a zip file can be both
    kind = "unpacked wheel" if package.is_wheel else "unpacked package"
    return packages / make_key(kind, [FORMAT, package.archive_key])


def is_cached(packages: Path, package: LockedPackage) -> bool:
    """Whether the package is there, and mark that it is used."""
    path = locate(packages, package) / CONTENTS
    mark_used(path)
    return path.exists()


def read_contents(packages: Path, package: LockedPackage) -> PackageContents | None:
    """Read where a package's paths go, as in its archive, without their sizes and hashes.

    Returns None if the package is not there, or broken.
    """
    name = str(package)
    path = locate(packages, package) / CONTENTS
    return _read(path, lambda document: recall_contents(name, document["sources"], document))


def read_files(
    packages: Path, package: LockedPackage, contents: PackageContents
) -> tuple[PackageContents, StoredFiles] | None:
    """Read the rest: the contents with sizes and hashes, and the files. Returns None like `read_contents`."""
    return _read(locate(packages, package) / FILES, lambda document: _load_files(contents, document))


def set_aside(place: Path) -> None:
    """Give a package of the cache a name under which it counts as absent, and delete it."""
    with contextlib.suppress(FileNotFoundError), temporary_directory(place.parent) as aside:
        os.rename(place, aside / "old")


def write_package(folder: Path, contents: PackageContents, files: StoredFiles) -> None:
    """Write both documents of an unpacked package to its folder. Raises OSError."""
    known = {
        "sources": contents.sources,
        "kinds": contents.kinds,
        "placeholders": [[index, *each] for index, each in contents.placeholders.items()],
        "no_link": sorted(contents.no_link),
        "directories": contents.directories,
        "entry_points": [list(entry) for entry in contents.entry_points],
        "link_scripts": contents.link_scripts,
        "timestamp": contents.timestamp,
        "noarch": contents.noarch,
        "wheel": write_facts(contents.wheel) if contents.wheel else None,
    }
    stored = {
        "sizes": contents.sizes,
        "sha256": contents.sha256,
        "stored": files.stored,
        "stored_sizes": files.sizes,
        "modified": files.modified,
        "executable": files.executable,
        "found": {path: list(facts) for path, facts in files.found.items()},
    }
    (folder / FILES).write_bytes(orjson.dumps(stored))
    (folder / CONTENTS).write_bytes(orjson.dumps(known))


def _read(path: Path, load: Callable[[Mapping[str, Any]], T]) -> T | None:
    with contextlib.suppress(OSError, JsonRefused, KeyError, TypeError, ValueError):
        return load(load_trusted(path.read_bytes()))
    return None


def _load_files(contents: PackageContents, document: Mapping[str, Any]) -> tuple[PackageContents, StoredFiles]:
    files = StoredFiles(
        stored=document["stored"],
        sizes=document["stored_sizes"],
        modified=document["modified"],
        executable=document["executable"],
        found={path: PathFacts(*facts) for path, facts in document["found"].items()},
    )
    columns = (contents.sources, document["sizes"], document["sha256"], files.stored, files.sizes, files.modified)
    if len({len(column) for column in (*columns, files.executable)}) > 1:
        raise ValueError("columns of different lengths")
    return replace(contents, sizes=document["sizes"], sha256=document["sha256"]), files
