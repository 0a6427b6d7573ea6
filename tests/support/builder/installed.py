"""What is under a prefix, path by path, and packages with every kind of path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.builder.packages import PLACEHOLDER, File, Link, Package

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


_BINARY = b"\x7fELF\0" + PLACEHOLDER.encode() + b"/lib:" + PLACEHOLDER.encode() + b"/lib64\0rest\0" + b"x" * 100
_TEXT = f"#!{PLACEHOLDER}/bin/python\nhome = {PLACEHOLDER}\nagain = {PLACEHOLDER}{PLACEHOLDER}\n".encode()

KINDS = (
    Package(
        name="python",
        version="3.12.1",
        files={
            "bin/python3.12": File(b"\x7fELF" + PLACEHOLDER.encode() + b"\0", mode=0o775, placeholder="binary"),
            "bin/python": Link("python3.12"),
        },
        python_site_packages_path="lib/python3.12/site-packages",
    ),
    Package(
        name="kinds",
        files={
            "bin/text": File(_TEXT, mode=0o775, placeholder="text"),
            "bin/.kinds-post-link.sh": File(b"touch /tmp/condery-ran-this\n", mode=0o775),
            "lib/binary.so": File(_BINARY, mode=0o644, placeholder="binary"),
            "lib/plain": File(b"plain", mode=0o6755, mtime=1_500_000_000),
            "lib/hard": Link("lib/plain", hard=True),
            "lib/hard-binary": Link("lib/binary.so", hard=True, placeholder="binary"),
            "lib/link": Link("../lib/plain"),
            "lib/dangling": Link("/nowhere"),
            "share/" + "deep/" * 30 + "name": b"deep",
            "share/empty": b"",
            "share/ünïcode name": b"unicode",
            "share/both": b"from kinds",
            "share/big": File(_TEXT * 5000, placeholder="text"),
        },
    ),
    Package(name="twin", files={"share/both": b"from twin"}, depends=["kinds"]),
    Package(
        name="pure",
        noarch="python",
        depends=["python"],
        entry_points=["pure = pure.cli:main", "pure-sub = pure.cli:Main.run"],
        files={
            "site-packages/pure/cli.py": b"def main(): pass\n",
            "site-packages/pure/data": File(f"{PLACEHOLDER}/x\n".encode(), placeholder="text"),
            "python-scripts/pure-script": File(f"#!{PLACEHOLDER}/bin/python\n".encode(), placeholder="text"),
            "etc/pure.conf": b"x",
        },
    ),
)
"""Packages with every kind of path, as they are packed: 21 files and links once they are installed."""
