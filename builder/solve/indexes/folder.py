"""The folder of repodata on disk: removes what interrupted reads left in it, and limits its size."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TEMPORARY = ".tmp"
"""The start of the names of rattler's unfinished files."""
_LOCK = ".lock"
"""Lock files stay: a process that waits for one must not end up with another file than the next process."""


@dataclass(frozen=True)
class RepodataFolder:
    """`most` is its limit in bytes. Several processes use one folder."""

    path: Path
    most: int

    def measure_unfinished(self, pid: int) -> int:
        """Count the bytes in this folder's files that a process is writing; 0 if it is gone."""
        here = os.path.realpath(self.path) + "/"
        sizes: dict[tuple[int, int], int] = {}
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                link = f"/proc/{pid}/fd/{descriptor}"
                with contextlib.suppress(OSError):
                    path = os.readlink(link)
                    if path.startswith(here) and _is_temporary(path.rpartition("/")[2]):
                        status = os.stat(link)
                        sizes[status.st_dev, status.st_ino] = status.st_size
        return sum(sizes.values())

    def remove_leftovers(self) -> None:
        """Remove the unfinished files that no process has open."""
        for entry in self._list_files(_is_temporary):
            _remove_unopened(entry.path)

    def trim(self) -> None:
        """Remove what was read longest ago, until at most `most` bytes are left. Whoever has a file open may go on."""
        total = 0
        groups: dict[str, list[os.DirEntry[str]]] = defaultdict(list)
        for entry in self._list_files(lambda name: not _is_temporary(name) and not name.endswith(_LOCK)):
            groups[entry.path.rpartition("/")[0] + "/" + entry.name.partition(".")[0]].append(entry)
            total += _read_size(entry)
        if total <= self.most:
            return
        for group in sorted(groups.values(), key=lambda entries: max(map(_read_mtime, entries))):
            for entry in group:
                total -= _read_size(entry)
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
            if total <= self.most:
                return

    def _list_files(self, wanted: Callable[[str], bool]) -> Iterator[os.DirEntry[str]]:
        """List the files with wanted names. No others are stat'ed, because there can be very many."""
        for folder in (self.path, self.path / "shards-v1"):
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    if not wanted(entry.name):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False):
                            yield entry


def format_size(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _is_temporary(name: str) -> bool:
    return name.startswith(_TEMPORARY)


def _read_size(entry: os.DirEntry[str]) -> int:
    return entry.stat(follow_symlinks=False).st_size


def _read_mtime(entry: os.DirEntry[str]) -> float:
    return entry.stat(follow_symlinks=False).st_mtime


def _remove_unopened(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        # The kernel grants such a lease to nobody while another process has the file open (fcntl(2)). When somebody
        # opens the file, it sends the holder a signal; the default one would end this process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        os.unlink(path)
    except OSError:
        pass
    finally:
        os.close(descriptor)
