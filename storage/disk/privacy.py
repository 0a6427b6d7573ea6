"""Who may read the data directory: its owner alone. It holds private images, and who pulled what."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

OWNER_ONLY = 0o077
"""The umask under which everything of the data directory is made."""


@contextlib.contextmanager
def masked(umask: int) -> Iterator[int]:
    """Files are made under `umask` while the block runs; gives the umask that was in force before."""
    before = os.umask(umask)
    try:
        yield before
    finally:
        os.umask(before)


def current_umask() -> int:
    """That of the process, which can only be had by setting it."""
    umask = os.umask(OWNER_ONLY)
    os.umask(umask)
    return umask


def make_private(directory: Path) -> None:
    """Make the directory if it is missing, for its owner alone. One that exists is left as it is."""
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)


def open_to_others(directory: Path) -> str | None:
    """The mode of the directory, such as `0755`, when others than its owner may do anything in it; else None."""
    mode = stat.S_IMODE(directory.stat().st_mode)
    return f"{mode:04o}" if mode & OWNER_ONLY else None
