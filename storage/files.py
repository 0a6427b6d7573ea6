"""Writing files so that a crash leaves the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from storage.errors import StorageFull

TEMPORARY = ".part-"


def sync_file(path: Path) -> None:
    """Make the content of the file `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(directory: Path) -> None:
    """Make the 256 folders below `directory` into which names of hex digits are spread by their first two."""
    for number in range(256):
        (directory / f"{number:02x}").mkdir(parents=True, exist_ok=True)


def sync_directory(directory: Path) -> None:
    """Make renames into `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A writable file that becomes `path` when the block ends, and is removed when it raises.

    With `durable` file and directory are flushed to the disk before this returns. Raises StorageFull.
    """
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}-{path.name[:80]}")
    try:
        try:
            file = open(temporary, "wb")  # noqa: SIM115 - closed below, before the rename
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(temporary, "wb")  # noqa: SIM115 - closed below, before the rename
        with file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(str(path.parent.name)) from error
        raise


def remove_leftovers(root: Path) -> int:
    """Remove what interrupted writes left under `root`; returns how many files.

    Only for a root that no other process writes to.
    """
    removed = 0
    for directory, _, names in os.walk(root):
        for name in names:
            if name.startswith(TEMPORARY):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(directory, name))
                    removed += 1
    return removed
