"""Access to the data directory: for its owner alone. It holds private images and who pulled what."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

OWNER_ONLY = 0o077
"""The umask for everything in the data directory."""


@contextlib.contextmanager
def masked(umask: int) -> Iterator[int]:
    """Set `umask` while the block runs; yields the earlier umask."""
    before = os.umask(umask)
    try:
        yield before
    finally:
        os.umask(before)


def current_umask() -> int:
    """The process's umask, which can only be read by setting it."""
    umask = os.umask(OWNER_ONLY)
    os.umask(umask)
    return umask


def make_private(directory: Path) -> None:
    """Make the directory for its owner alone. An existing one is left as it is."""
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)


def open_to_others(path: Path) -> str | None:
    """The mode of a directory or file, such as `0755`, if it gives others any access; otherwise None."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"{mode:04o}" if mode & OWNER_ONLY else None
