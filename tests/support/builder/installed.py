"""What is under a prefix, path by path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RATTLERS = ("conda-meta/", "CACHEDIR.TAG", "__clobbers__/")
"""What rattler adds: its records, a mark for backup programs, and the losers of an overlap."""


@dataclass(frozen=True)
class Found:
    """One path: `kind` is file or link, `executable` the mode class, `content` a hash or the link's target."""

    kind: str
    executable: bool
    content: str


def installed(directory: Path, others: tuple[str, ...] = RATTLERS) -> Iterator[tuple[str, Found]]:
    """Every file and link under `directory` but those below `others`."""
    for folder, folders, names in os.walk(directory):
        for name in [*names, *(each for each in folders if os.path.islink(os.path.join(folder, each)))]:
            path = Path(folder, name)
            relative = str(path.relative_to(directory))
            if relative.startswith(others):
                continue
            if path.is_symlink():
                yield relative, Found("link", False, os.readlink(path))
            else:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                yield relative, Found("file", bool(path.stat().st_mode & 0o111), digest)
