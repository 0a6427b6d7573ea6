"""Objects as files of a local folder.

They are spread over folders by the first two characters of their keys:

    blobs/ab/<key>          the bytes
    blobs/ab/.part-<key>    bytes of a writer that has not committed
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from storage.disk.files import TEMPORARY, sync_directory, translate_errors
from storage.disk.reserve import free_bytes
from storage.errors import ObjectMissing
from storage.objects.protocol import ObjectPart, ObjectStore, ObjectWriter, writing
from storage.objects.segments import CHUNK, FileRange, Segment, read_segment

LOOK_BYTES = 4 << 20
"""Bytes written to one object between two checks of the free space."""


class FileObjects:
    """An ObjectStore in a folder of the local file system."""

    buffered = 2 * CHUNK

    def __init__(self, root: Path, floor: int = 0) -> None:
        """New objects leave the last `floor` bytes of the disk free."""
        self._root = root
        self._floor = floor

    def path(self, key: str) -> Path:
        return self._root / key[:2] / key

    def writer(self, key: str) -> ObjectWriter:
        return _FileWriter(self._root, self.path(key), self._floor)

    def segments(self, key: str, start: int, stop: int) -> list[Segment]:
        path = self.path(key)
        if not path.exists():
            raise ObjectMissing(key)
        return [FileRange(path, start, stop - start)] if stop > start else []

    def concatenate(self, key: str, parts: Sequence[ObjectPart]) -> None:
        with writing(self, key) as writer:
            for part in parts:
                for segment in self.segments(part.key, 0, part.size):
                    for chunk in read_segment(segment):
                        writer.write(chunk)

    def delete(self, keys: Iterable[str]) -> None:
        with translate_errors(self._root):
            for key in keys:
                path = self.path(key)
                for each in (path, _beside(path)):
                    each.unlink(missing_ok=True)

    def link(self, key: str, *, media_type: str) -> str | None:
        return None

    def check(self) -> None:
        with translate_errors(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            path = self._root / f"{TEMPORARY}check-{secrets.token_hex(8)}"
            try:
                path.write_bytes(b"\0" * 4096)
            finally:
                path.unlink(missing_ok=True)


def readable_part(store: ObjectStore, key: str) -> Path | None:
    """The file with the bytes that the writer of `key` has taken, readable until it commits; None if there is none."""
    return _beside(store.path(key)) if isinstance(store, FileObjects) else None


class _FileWriter:
    """Writes to a file beside the final one, and renames it."""

    def __init__(self, root: Path, path: Path, floor: int) -> None:
        self.size = 0
        self._root = root
        self._path = path
        self._floor = floor
        self._since_look = 0
        self._beside = _beside(path)
        self._file: IO[bytes] | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with translate_errors(self._root):
            file = self._open_file()
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        self.size += len(data)
        self._since_look += len(data)
        if self._since_look >= LOOK_BYTES:
            self._since_look = 0
            with translate_errors(self._root):
                self._look()

    def commit(self) -> None:
        with translate_errors(self._root):
            file = self._open_file()
            os.fsync(file.fileno())
            file.close()
            os.rename(self._beside, self._path)
            sync_directory(self._path.parent)
        self._file = None

    def abort(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(OSError):
                self._beside.unlink(missing_ok=True)

    def _look(self) -> None:
        """Raise OSError if the disk has no more than the floor left."""
        if self._floor and free_bytes(self._root) < self._floor:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open_file(self) -> IO[bytes]:
        if self._file is None:
            try:
                self._file = open(self._beside, "xb", buffering=0)  # noqa: SIM115 - closed by commit or abort
            except FileNotFoundError:
                self._beside.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self._beside, "xb", buffering=0)  # noqa: SIM115 - likewise
            self._look()
        return self._file


def _beside(path: Path) -> Path:
    return path.with_name(TEMPORARY + path.name)
