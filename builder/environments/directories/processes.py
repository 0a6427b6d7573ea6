"""Which processes of this machine run from a directory.

A process is seen by what it executes, where it is, and the libraries it has loaded. Those of other users are seen only
by root, and those of other machines, or of containers that have the directory mounted elsewhere, by nobody here: that
is what the grace time is for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_LINKS = ("exe", "cwd", "root")
_MAPPED = re.compile(rb"^\S+ \S+ \S+ \S+ \S+\s+(/[^\n]*)$", re.MULTILINE)


def find_used(directories: Iterable[Path], processes: Path = Path("/proc")) -> dict[Path, int]:
    """Return those of `directories` from which a process runs, with the id of one of them."""
    wanted = {os.fsencode(os.path.realpath(each)) + b"/": each for each in directories}
    used: dict[Path, int] = {}
    for process in _list_processes(processes) if wanted else ():
        for path in set(_list_paths(processes / process)):
            for prefix in [prefix for prefix in wanted if (path + b"/").startswith(prefix)]:
                used[wanted[prefix]] = int(process)
    return used


def _list_processes(processes: Path) -> list[str]:
    return [name for name in os.listdir(processes) if name.isdecimal()]


def _list_paths(process: Path) -> Iterator[bytes]:
    for link in _LINKS:
        with suppress(OSError):
            yield os.readlink(os.fsencode(process / link))
    with suppress(OSError):
        yield from _MAPPED.findall((process / "maps").read_bytes())
