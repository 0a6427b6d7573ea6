"""Writes files that hold the prefix: those of packages, with their placeholder replaced, and their commands."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from builder.environments.directories.cache import StoredFile
from builder.errors import PackageRefused
from builder.packages.contents import PackageContents, Placeholder
from builder.packages.differences import PathFacts
from builder.packages.prefix import replace_chunks
from builder.packages.prefix_record import WrittenFile

_PIECE = 1 << 20
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def check_room(contents: PackageContents, prefix: str) -> None:
    """Raises PackageRefused if the prefix does not fit in a binary file of the package."""
    length = len(prefix.encode())
    for index, (text, mode) in contents.placeholders.items():
        if mode == "binary" and length > len(text.encode()):
            raise PackageRefused(
                contents.package,
                f"{contents.sources[index]} has room for a prefix of {len(text.encode())} bytes, but {prefix} has "
                f"{length}; give the environment or its namespace a shorter name, or ask the administrator for a "
                "shorter environments_directory",
            )


def write_replaced(
    path: str, cached: str, stored: StoredFile, placeholder: Placeholder, prefix: str, modified: int
) -> tuple[WrittenFile, PathFacts]:
    """Write the file `cached` to `path`, with its placeholder replaced, and return what it is now and what it was.

    `modified` is in seconds. Raises FileExistsError, LongString, and FileNotFoundError if the cached file is not what
    was stored.
    """
    packaged = hashlib.sha256()
    with open(cached, "rb") as file:
        if not stored.is_still(os.fstat(file.fileno())):
            raise FileNotFoundError(cached)
        pieces = replace_chunks(_read(file, packaged), placeholder.mode, placeholder.text, prefix)
        written = write_new(path, pieces, 0o755 if stored.executable else 0o644, modified)
    return written, PathFacts("f", stored.size, packaged.hexdigest())


def write_new(path: str, pieces: Iterable[bytes], mode: int, modified: int | None = None) -> WrittenFile:
    """Write a new file. Raises FileExistsError; nothing is written through a link. `modified` is in seconds."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "wb", opener=lambda name, _: os.open(name, NEW, mode)) as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
            size += len(piece)
        file.flush()
        if modified is not None:
            os.utime(file.fileno(), ns=(modified * 10**9, modified * 10**9))
    return WrittenFile(digest.hexdigest(), size)


def _read(file: BinaryIO, digest: hashlib._Hash) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        digest.update(piece)
        yield piece
