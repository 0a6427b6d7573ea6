"""Bounds the cache of unpacked packages: the least recently used go first, those that environments have last.

A file that an environment on disk has too costs nothing to keep, so it does not count.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from builder.environments.directories.cache import CONTENTS, set_aside
from storage.clock import IN_USE_SECONDS, is_within
from storage.database.sql_clock import mend_file
from storage.disk.files import TEMPORARY


@dataclass(frozen=True)
class Unpacked:
    """A package in the cache: the bytes that its removal would free, whether environments have files of it, and when
    it was last used (UNIX seconds)."""

    folder: Path
    size: int
    linked: bool
    used: float


def evict(packages: Path, bound: int) -> int:
    """Remove packages until the cache has at most `bound` bytes of its own, and return how many; 0 is no bound.

    Those that were used in the last hours stay: they may be being installed.
    """
    if not bound:
        return 0
    found = survey(packages)
    excess = sum(each.size for each in found) - bound
    removed = 0
    for each in sorted(found, key=lambda each: (each.linked, each.used, each.folder.name)):
        if excess <= 0:
            break
        if each.size and not is_within(IN_USE_SECONDS, each.used):
            set_aside(each.folder)
            excess -= each.size
            removed += 1
    return removed


def survey(packages: Path) -> list[Unpacked]:
    """List the packages in the cache."""
    try:
        names = os.listdir(packages)
    except FileNotFoundError:
        return []
    return [each for name in names if not name.startswith(TEMPORARY) and (each := _measure(packages / name))]


def _measure(folder: Path) -> Unpacked | None:
    size, linked, used = 0, False, 0.0
    with suppress(FileNotFoundError, NotADirectoryError):
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                linked = linked or status.st_nlink > 1
                size += status.st_blocks * 512 if status.st_nlink == 1 else 0
                if entry.name == CONTENTS:
                    used = mend_file(folder / CONTENTS, status)
        return Unpacked(folder, size, linked, used)
    return None
