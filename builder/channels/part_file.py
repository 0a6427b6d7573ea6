"""A file that grows during a download. It is hashed in the same pass and renamed when it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path
from typing import Literal, Self

_CHUNK = 1 << 20


class PartFile:
    """`<path>.<source>.part`, locked against other processes. Every method blocks: call it in a thread.

    Each source has a part of its own: a slow one would hold up the others, and a wrong one spoil what they brought.
    What an earlier attempt left is kept and hashed first, so that a download resumes where it stopped.
    """

    def __init__(self, path: Path, source: str, descriptor: int, algorithm: Literal["sha256", "md5"]) -> None:
        self.path = _name_part(path, source)
        self._final = path
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self._algorithm = algorithm
        self.rehash()

    @classmethod
    def open(cls, path: Path, source: str, algorithm: Literal["sha256", "md5"]) -> Self | None:
        """Open the part of `source`. Returns None if another process is writing it, or has just finished it."""
        part = _name_part(path, source)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the locked file may have been renamed to its final name between the two calls
            if os.stat(part).st_ino == os.fstat(descriptor).st_ino:
                return cls(path, source, descriptor, algorithm)
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def rehash(self) -> None:
        """Hash the content of the file from its start."""
        self._hash = hashlib.new(self._algorithm)
        self._file.seek(0)
        self.size = 0
        while chunk := self._file.read(_CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)

    def append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        self._file.truncate(0)
        self.rehash()

    @property
    def digest(self) -> str:
        """Hexadecimal hash of all bytes so far."""
        return self._hash.hexdigest()

    def publish(self) -> None:
        """Give the file its final name."""
        os.fsync(self._file.fileno())
        os.replace(self.path, self._final)

    def discard(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        self._file.close()


def _name_part(path: Path, source: str) -> Path:
    return path.with_name(f"{path.name}.{source[:16]}.part")
