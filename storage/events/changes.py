"""Which repositories have changed, for memories of what the database says.

Whoever changes a repository marks it after the commit and before the answer. Whoever remembers something of it takes
the repository's stamp before asking the database, and believes the memory only while the stamp is the same. The stamps
are in a file that all processes of a machine map, so that looking costs no more than reading a number.
"""

from __future__ import annotations

import mmap
import os
import secrets
import zlib
from pathlib import Path

SLOTS = 1 << 14
"""Repositories share a slot by the checksum of their name: a change may cost another's memory, never hide a change."""


class Changes:
    """The stamps of the processes that share `path`. Safe to use from several threads and processes at once."""

    def __init__(self, path: Path) -> None:
        self.blind = False
        """Whether changes may happen that are not marked here."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # it only grows, and only once: truncating a file that others have mapped would take it from under them
            if os.fstat(descriptor).st_size < 8 * SLOTS:
                os.truncate(descriptor, 8 * SLOTS)
            self._stamps = memoryview(mmap.mmap(descriptor, 8 * SLOTS)).cast("Q")
        finally:
            os.close(descriptor)

    def stamp(self, repository: str) -> int:
        """What is different after every mark of `repository`, and each time while this process is `blind`."""
        if self.blind:
            return secrets.randbits(64)
        return self._stamps[zlib.crc32(repository.encode()) % SLOTS]

    def mark(self, repository: str) -> None:
        """Let nobody believe what they remember of `repository`.

        Random, for two that count up at the same time would count one.
        """
        self._stamps[zlib.crc32(repository.encode()) % SLOTS] = secrets.randbits(64)

    def mark_all(self) -> None:
        """For whoever may have missed changes: a process may have been killed between its commit and its mark."""
        for slot in range(SLOTS):
            self._stamps[slot] = secrets.randbits(64)
