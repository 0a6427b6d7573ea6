"""A backup of everything that cannot be made again, taken while the server runs.

The database is copied as of one moment, then the bytes that it names. No garbage collection may run meanwhile, so that
none of the bytes disappear: the caller holds `storage.garbage.exclusive.between_collections`. Bytes from an earlier
backup are not copied again, since the bytes of a key never change.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from storage.disk.files import TEMPORARY, sync_directory, sync_file
from storage.disk.privacy import OWNER_ONLY, make_private, masked
from storage.errors import BackupFailed
from storage.layout import DataDirectory
from storage.objects.files import FileObjects

BUSY_SECONDS = 60

# what was in progress belongs to the server that was backed up
_FORGET = ("upload_part", "upload", "pending", "lease")

OnFileCopied = Callable[[int, int], None]
"""Files done, files in all."""


@dataclass(frozen=True)
class Backup:
    """What a backup holds: `files` with `bytes` in all, of which `copied` bytes are new."""

    files: int
    bytes: int
    copied: int


def back_up(data: Path, target: Path, report: OnFileCopied = lambda _done, _total: None) -> Backup:
    """Bring the directory `target` to the state of the data directory `data`, so that it can replace it.

    Blocks. A backup that fails leaves the earlier one whole. Raises BackupFailed.
    """
    with _translate_errors(target), masked(OWNER_ONLY):
        _check_target(data, target)
        make_private(target)
        copy = _copy_of_database(target)
        _copy_database(DataDirectory(data).database, copy)
        wanted = dict(_files(copy, data, target))
        sizes = []
        copied = 0
        for done, (new, old) in enumerate(wanted.items()):
            report(done, len(wanted))
            size, fresh = _bring(old, new)
            sizes.append(size)
            copied += size if fresh else 0
        for folder in {path.parent for path in wanted}:
            sync_directory(folder)
        os.replace(copy, DataDirectory(target).database)
        sync_directory(target)
        _drop_others(target, set(wanted))
        report(len(wanted), len(wanted))
    return Backup(len(wanted), sum(sizes), copied)


def _copy_of_database(target: Path) -> Path:
    """The place of the database's copy until everything that it names is there."""
    whole = DataDirectory(target).database
    return whole.with_name(f"{TEMPORARY}{whole.name}")


def _copy_database(source: Path, copy: Path) -> None:
    if not source.exists():
        raise BackupFailed(str(source), "there is no such database")
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(source, timeout=BUSY_SECONDS)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
        for table in _FORGET:
            new.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        new.commit()
        # a single file, without a log beside it
        new.execute("PRAGMA journal_mode=DELETE")
    sync_file(copy)


def _check_target(data: Path, target: Path) -> None:
    """Raise BackupFailed if one directory is inside the other, or `target` has other files."""
    real, other = data.resolve(), target.resolve()
    if real == other or real in other.parents or other in real.parents:
        raise BackupFailed(
            str(target), "it is the data directory, or inside it, or contains it; name another directory"
        )
    if not target.is_dir() or DataDirectory(target).database.is_file() or _copy_of_database(target).is_file():
        return
    if any(target.iterdir()):
        raise BackupFailed(str(target), "it has files that do not belong to a backup; name a new or an empty directory")


def _files(database: Path, data: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """(path in the backup, path in the data directory) of every file that the copied database needs."""
    old, new = DataDirectory(data), DataDirectory(target)
    old_objects, new_objects = FileObjects(old.blobs), FileObjects(new.blobs)
    with closing(sqlite3.connect(database)) as connection:
        for (key,) in connection.execute("SELECT key FROM blob WHERE key IS NOT NULL"):
            yield new_objects.path(key), old_objects.path(key)
        for (key,) in connection.execute("SELECT DISTINCT fragment FROM fragment_use"):
            for name in (key, f"{key}.json"):
                yield new.fragment(name), old.fragment(name)
    for path in old.bases.rglob("*"):
        if path.is_file() and not path.name.startswith(TEMPORARY):
            yield target / path.relative_to(data), path


def _bring(old: Path, new: Path) -> tuple[int, bool]:
    """Copy a file unless it is there; return its size and whether it was copied."""
    size = old.stat().st_size
    with contextlib.suppress(FileNotFoundError):
        if new.stat().st_size == size:
            return size, False
    new.parent.mkdir(parents=True, exist_ok=True)
    part = new.with_name(TEMPORARY + new.name)
    shutil.copyfile(old, part)
    sync_file(part)
    os.replace(part, new)
    return size, True


def _drop_others(target: Path, wanted: set[Path]) -> None:
    """Delete files of earlier backups that nothing needs any more."""
    whole = DataDirectory(target)
    for folder in (whole.blobs, whole.fragments, whole.bases):
        for path in folder.rglob("*"):
            if path.is_file() and path not in wanted:
                path.unlink()


@contextlib.contextmanager
def _translate_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupFailed(error.filename or str(target), error.strerror or str(error)) from error
    except sqlite3.Error as error:
        raise BackupFailed(str(target), str(error)) from error
