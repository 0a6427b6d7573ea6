"""Atomic file writes: a crash leaves the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from storage.clock import USE_SECONDS, is_within
from storage.errors import StorageFull, StorageUnavailable

TEMPORARY = ".part-"

FULL = (errno.ENOSPC, errno.EDQUOT)


def sync_file(path: Path) -> None:
    """Make the content of the file `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(directory: Path) -> None:
    """Make the 256 folders below `directory` that spread names of hex digits by their first two."""
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
def atomic_write(path: Path, *, durable: bool = True, scratch: Path | None = None) -> Iterator[IO[bytes]]:
    """Yield a writable file that becomes `path` when the block ends; it is removed if the block raises.

    Until then it is in the folder `scratch`, which must be on the same file system, or else beside `path`. With
    `durable` the file and its directory are flushed to disk before this returns. Raises StorageFull.
    """
    temporary = (scratch or path.parent) / f"{TEMPORARY}{secrets.token_hex(8)}-{path.name[:80]}"
    try:
        with _open_held(temporary) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            _replace(temporary, path)
        if durable:
            sync_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise StorageFull(_folder_of(path, scratch)) from error
        raise


def _folder_of(path: Path, scratch: Path | None) -> str:
    """The folder's name as a person knows it, not that of a folder that only spreads names."""
    return f"{scratch.name} in the data directory" if scratch else path.parent.name


@contextlib.contextmanager
def translate_errors(where: Path) -> Iterator[None]:
    """Turn the operating system's errors in the folder `where` into StorageFull and StorageUnavailable."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(f"{where.name} in the data directory") from error
        raise StorageUnavailable(where.name, error.strerror or str(error)) from error


@contextlib.contextmanager
def temporary_directory(parent: Path) -> Iterator[Path]:
    """Yield a new directory below `parent`; it is removed with its content when the block ends."""
    directory = parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    directory.mkdir(mode=0o700, parents=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield directory
    finally:
        os.close(descriptor)
        shutil.rmtree(directory, ignore_errors=True)


def mark_used(path: Path) -> None:
    """Set the file's access time to now, unless it is newer than USE_SECONDS, whatever the mount options.

    Evictions go by that time. The file's other times stay as they are.
    """
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        if not is_within(USE_SECONDS, max(status.st_atime, status.st_mtime)):
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))


def remove_leftovers(folders: Iterable[Path], stopped: Callable[[], bool] = lambda: False) -> int:
    """Remove the files that interrupted writes left in `folders`, and return how many.

    A file that is being written is left alone: its writer holds a lock on it, which the kernel drops when the process
    ends, however it ends. Subfolders are not searched: a writer that spreads its files over many keeps the unfinished
    ones in the folder above them (`scratch` of `atomic_write`). Stops early once `stopped` returns True.
    """
    removed = 0
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                if name.startswith(TEMPORARY) and not stopped():
                    removed += _remove_unheld(os.path.join(folder, name))
    return removed


def _replace(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, path)


def _open_held(path: Path) -> IO[bytes]:
    """Open a new file that `remove_leftovers` leaves alone while it is open."""
    while True:
        try:
            file = open(path, "wb")  # noqa: SIM115 - the caller closes it
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        fcntl.flock(file, fcntl.LOCK_SH)
        # it may have been removed as a leftover before it was locked
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _remove_unheld(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
