"""Disk space reserved for deletions: on a full disk even these have to write before they can free anything.

The reserve is a file in the data directory. It is given up when the disk is full, and taken again when there is room.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from storage.layout import DataDirectory

MOST = 16 << 20
SHARE = 16
"""The reserve is MOST bytes or, on a small disk, the disk's size divided by this."""


class Reserve:
    """The reserve of one data directory. Methods block briefly, and never raise because the disk is full."""

    def __init__(self, directory: Path) -> None:
        self._path = DataDirectory(directory).reserve
        status = os.statvfs(directory)
        self.size = min(MOST, status.f_blocks * status.f_frsize // SHARE)
        """Bytes."""

    def keep(self) -> None:
        """Take the reserve if more than twice its size is free."""
        if self._path.exists() or free_bytes(self._path.parent) < 2 * self.size:
            return
        beside = self._path.with_name(f".part-{self._path.name}-{os.getpid()}")
        # if the disk fills up meanwhile, or the file system cannot do this, there is a next time
        with contextlib.suppress(OSError):
            try:
                with open(beside, "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, self.size)
                os.replace(beside, self._path)
            finally:
                beside.unlink(missing_ok=True)

    def spend(self) -> bool:
        """Give up the reserve; False if there was none."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def prepare(self) -> None:
        """Give up the reserve on a nearly full disk, so that the start can write; otherwise take it."""
        if free_bytes(self._path.parent) < self.size // 2:
            self.spend()
        else:
            self.keep()


def free_bytes(directory: Path) -> int:
    """The bytes free for us on the file system of `directory`."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
