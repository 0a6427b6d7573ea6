"""Writes files that are no links into the cache: those that hold the prefix, commands, records.

All paths are relative to an open folder. Nothing is written through a link, or over what is there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import BinaryIO, TypeVar

from builder.archives.tar import EARLIEST
from builder.packages.contents import Placeholder
from builder.packages.differences import PathFacts
from builder.packages.prefix import replace_chunks
from builder.packages.prefix_record import WrittenFile

T = TypeVar("T")

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
_LATEST = (1 << 33) - 1


def clamp_time(seconds: int) -> int:
    """Return a time that images and every usual file system can hold: from 1980 to 2242, in seconds."""
    return min(max(seconds, EARLIEST), _LATEST)


def again(folder: int, path: str, make: Callable[[str], T]) -> T:
    """Call `make(path)`. What is there already was left by a worker that died, and is removed first."""
    try:
        return make(path)
    except FileExistsError:
        with suppress(FileNotFoundError):
            os.unlink(path, dir_fd=folder)
        return make(path)


def replace_file(
    folder: int, path: str, pieces: Iterable[bytes], mode: int, modified: int | None = None
) -> WrittenFile:
    """Write a file anew from `pieces`, which can be iterated again. `modified` is in seconds."""
    return again(folder, path, partial(write_new, folder, pieces=pieces, mode=mode, modified=modified))


def write_new(folder: int, path: str, pieces: Iterable[bytes], mode: int, modified: int | None = None) -> WrittenFile:
    """Write a new file. Raises FileExistsError. `modified` is in seconds."""
    digest = hashlib.sha256()
    size = 0
    with open(os.open(path, NEW, mode, dir_fd=folder), "wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
            size += len(piece)
        file.flush()
        if modified is not None:
            os.utime(file.fileno(), ns=(modified * 10**9, modified * 10**9))
    return WrittenFile(digest.hexdigest(), size)


def write_replaced(
    folder: int, path: str, packaged: BinaryIO, mode: int, placeholder: Placeholder, prefix: str, modified: int
) -> tuple[WrittenFile, PathFacts]:
    """Write the file `packaged` with its placeholder replaced, and return what it is now and what it was.

    Raises FileExistsError, LongString.
    """
    digest = hashlib.sha256()
    packaged.seek(0)
    pieces = replace_chunks(_read(packaged, digest), placeholder.mode, placeholder.text, prefix)
    written = write_new(folder, path, pieces, mode, modified)
    return written, PathFacts("f", packaged.tell(), digest.hexdigest())


def copy_new(folder: int, path: str, packaged: BinaryIO, mode: int, modified: int) -> None:
    """Copy the file `packaged`. `modified` is in nanoseconds. Raises FileExistsError."""
    packaged.seek(0)
    descriptor = os.open(path, NEW, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            while piece := packaged.read(_PIECE):
                file.write(piece)
        os.utime(descriptor, ns=(modified, modified))
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _read(file: BinaryIO, digest: hashlib._Hash) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        digest.update(piece)
        yield piece
