"""Room that is kept for deletions: on a full disk even these have to write before they can free anything.

The room is a file of the data directory. It is given up when the disk is full, and taken again when there is room.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from storage.layout import DataDirectory

MOST = 16 << 20
SHARE = 16
"""The reserve has MOST bytes, or on a small disk its size divided by this."""


class Reserve:
    """The reserve of one data directory. Methods block for a moment, and never raise for a disk that is full."""

    def __init__(self, directory: Path) -> None:
        self._path = DataDirectory(directory).reserve
        status = os.statvfs(directory)
        self.size = min(MOST, status.f_blocks * status.f_frsize // SHARE)
        """Bytes."""

    def keep(self) -> None:
        """Take the room, if there is more than twice as much as that."""
        if self._path.exists() or free_bytes(self._path.parent) < 2 * self.size:
            return
        beside = self._path.with_name(f".part-{self._path.name}-{os.getpid()}")
        # whoever fills the disk meanwhile, or whatever this file system cannot do, there is a next time
        with contextlib.suppress(OSError):
            try:
                with open(beside, "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, self.size)
                os.replace(beside, self._path)
            finally:
                beside.unlink(missing_ok=True)

    def spend(self) -> bool:
        """Give the room up; False when it was not there."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def prepare(self) -> None:
        """Spend it on a disk that is all but full, so that what comes can write; else take it."""
        if free_bytes(self._path.parent) < self.size // 2:
            self.spend()
        else:
            self.keep()


def free_bytes(directory: Path) -> int:
    """What is free for us on the file system that has `directory`."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
