"""Where environments are below the root directory.

Namespaces, environments and builds have names that people chose, so a name becomes a file name that means nothing to a
file system or a shell: `.` and `..` are names of environments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.errors import DirectoryUnsuitable
from storage.disk.files import FULL
from storage.errors import StorageFull, StorageUnavailable

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+@.-")
_NAME = re.compile(r"[A-Za-z0-9+_@$&?^~.=-]+")
_BUILD = re.compile(r"[A-Za-z0-9_]+")
"""No hyphen, so that the last one in a directory's name is where the build begins."""

LONGEST_NAME = 255
"""Bytes of a file name on Linux (NAME_MAX)."""


def encode_name(name: str) -> str:
    """Return the file name that stands for `name` alone.

    A shell's characters, and a dot or hyphen at the start, become `=` and two hex digits. Raises DirectoryUnsuitable.
    """
    if not _NAME.fullmatch(name):
        raise DirectoryUnsuitable(name, "a name has only letters, digits and + _ @ $ & ? ^ ~ . = -")
    first, rest = name[0], name[1:]
    encoded = _encode(first, first in ".-") + "".join(map(_encode, rest))
    if len(encoded) > LONGEST_NAME:
        raise DirectoryUnsuitable(name, "the name is too long for a directory; give it a shorter one")
    return encoded


def _encode(character: str, special: bool = False) -> str:
    return f"={ord(character):02X}" if special or character not in _PLAIN else character


@dataclass(frozen=True)
class Place:
    """Where the builds of one environment are."""

    root: Path
    namespace: str
    name: str

    @property
    def folder(self) -> Path:
        """The namespace's folder. Raises DirectoryUnsuitable, like the others."""
        return self.root / encode_name(self.namespace)

    @property
    def links(self) -> Path:
        """The folder of the namespace's current environments."""
        return self.folder / "envs"

    @property
    def link(self) -> Path:
        """The link to the current build."""
        return self.links / encode_name(self.name)

    def directory(self, build: str) -> Path:
        """The directory of a build, which is the prefix of its environment."""
        if not _BUILD.fullmatch(build):
            raise DirectoryUnsuitable(build, "a build's id has only letters, digits and _")
        name = f"{encode_name(self.name)}-{build}"
        if len(name) > LONGEST_NAME:
            raise DirectoryUnsuitable(self.name, "the name is too long for a directory; give it a shorter one")
        return self.folder / name

    def read_build(self, directory: str) -> str | None:
        """Return the build whose directory has this name, or None if it is none of this environment's."""
        name, hyphen, build = directory.rpartition("-")
        return build if hyphen and name == encode_name(self.name) and _BUILD.fullmatch(build) else None


@contextmanager
def telling(place: Path) -> Iterator[None]:
    """Turn the operating system's errors about `place` into StorageFull and StorageUnavailable."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(f"the directory {place}") from error
        raise StorageUnavailable(f"the directory {place}", error.strerror or str(error)) from error
