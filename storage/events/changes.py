"""Which repositories have changed, for caches of what the database says.

A change to a repository is marked after its commit and before its answer. Code that caches a fact about a repository
takes the repository's stamp before it queries the database, and trusts the cache only while the stamp is the same. The
stamps are in a file that all processes of a machine map, so checking one costs no more than reading a number.
"""

from __future__ import annotations

import mmap
import os
import secrets
import zlib
from functools import lru_cache
from pathlib import Path

SLOTS = 1 << 14
"""Repositories share a slot by the checksum of their name: a change may void another's cache, but is never missed."""
_BYTES = 8 * (SLOTS + 1)
"""One slot more is for names that begin with `//`, which no repository has: what decides about access."""


ACCESS = "//access"
"""What decides about access, as the name of a repository."""


class Changes:
    """The stamps shared by the processes that map `path`. Safe to use from several threads and processes at once."""

    def __init__(self, path: Path) -> None:
        self.blind = False
        """Whether changes may happen that are not marked here."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # grow it only once: truncating a file that others have mapped would pull it from under them
            if os.fstat(descriptor).st_size < _BYTES:
                os.truncate(descriptor, _BYTES)
            self._stamps = memoryview(mmap.mmap(descriptor, _BYTES)).cast("Q")
        finally:
            os.close(descriptor)

    def stamp(self, repository: str) -> int:
        """A number that changes with every mark of `repository`, and with every call while this process is `blind`."""
        if self.blind:
            return secrets.randbits(64)
        return self._stamps[_slot(repository)]

    def stamp_of_namespace(self, namespace: str) -> tuple[int, int]:
        """What changes with every mark of `namespace`, and with all that decides about access, such as whether there is
        such a namespace."""
        return self.stamp(namespace), self.stamp(ACCESS)

    def mark(self, repository: str) -> None:
        """Void all caches of `repository`.

        The new stamp is random: two processes that counted up at the same time would count only one.
        """
        self._stamps[_slot(repository)] = secrets.randbits(64)

    def mark_all(self) -> None:
        """Void all caches, since a change may have been missed: a process can die between its commit and its mark."""
        # at once: a number at a time takes half of what opening a store costs
        self._stamps[:] = memoryview(os.urandom(_BYTES)).cast("Q")


@lru_cache(maxsize=4096)
def _slot(repository: str) -> int:
    # whoever may push could choose a name that shares its slot, and void the caches on which every request relies
    return SLOTS if repository.startswith("//") else zlib.crc32(repository.encode()) % SLOTS
