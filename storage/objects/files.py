"""Bytes under opaque keys: what blobs and upload sessions are made of.

A key is made once, written once and never used again. So whoever deletes late, after a crash or on a slow connection,
deletes what it meant to delete: no newer bytes can be under the same key.

    blobs/ab/<key>          the bytes
    blobs/ab/.part-<key>    bytes of a writer that has not committed
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from storage.disk.files import TEMPORARY, known_errors, sync_directory
from storage.disk.reserve import free_bytes
from storage.errors import ObjectMissing

CHUNK = 1 << 20

LOOK_BYTES = 4 << 20
"""Bytes of one object that are written between two looks at how much is free."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """`length` bytes of the file `path` from `offset`."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class StreamRange:
    """`length` bytes that `open()` gives in chunks, each time it is called; for stores that are not local."""

    open: Callable[[], Iterator[bytes]]
    length: int


Segment = bytes | FileRange | StreamRange
"""Content is served as segments in order: bytes from memory, ranges of files by sendfile, streams by copying."""


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """A whole object of `size` bytes, as a part of another."""

    key: str
    size: int


class ObjectWriter(Protocol):
    """One object that is being written. Methods block; one thread at a time."""

    @property
    def size(self) -> int:
        """Bytes taken so far."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes, which may be changed afterwards. Raises StorageFull, StorageUnavailable."""

    def commit(self) -> None:
        """The object is whole, readable and on stable storage when this returns."""

    def abort(self) -> None:
        """Leave nothing. May be called twice, and does nothing after `commit`."""


class ObjectStore(Protocol):
    """Bytes by key. Methods block and may be called from any thread; all raise StorageUnavailable."""

    @property
    def buffered(self) -> int:
        """Bytes of memory that a writer takes while its content comes, at most but for very large objects."""

    def writer(self, key: str) -> ObjectWriter:
        """A new object, which is not there before its `commit`."""

    def segments(self, key: str, start: int, stop: int) -> Sequence[Segment]:
        """The bytes [start, stop) of an object that is that long; raises ObjectMissing at once or while it is read."""

    def concatenate(self, key: str, parts: Sequence[ObjectPart]) -> None:
        """A new object of the content of `parts` in order, durable like a written one. The parts stay."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, and what a writer of them that never ended has left. Unknown keys are fine."""

    def link(self, key: str, *, media_type: str) -> str | None:
        """A URL that anybody may GET the object from for a short while; None when the server has to send the bytes."""

    def check(self) -> None:
        """Raises StorageError when the store cannot be written to and read."""


def new_key() -> str:
    """A key that never was and never will be used by another."""
    return uuid.uuid4().hex


class FileObjects:
    """An ObjectStore in a folder of the local file system."""

    buffered = 2 * CHUNK

    def __init__(self, root: Path, floor: int = 0) -> None:
        """New objects leave the last `floor` bytes of the disk to others."""
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
        with known_errors(self._root):
            for key in keys:
                path = self.path(key)
                for each in (path, _beside(path)):
                    each.unlink(missing_ok=True)

    def link(self, key: str, *, media_type: str) -> str | None:
        return None

    def check(self) -> None:
        with known_errors(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            path = self._root / f"{TEMPORARY}check-{secrets.token_hex(8)}"
            try:
                path.write_bytes(b"\0" * 4096)
            finally:
                path.unlink(missing_ok=True)


def readable_part(store: ObjectStore, key: str) -> Path | None:
    """The file in which the bytes that a writer of `key` has taken can be read until it commits; None without one."""
    return _beside(store.path(key)) if isinstance(store, FileObjects) else None


class _FileWriter:
    """Writes beside, and renames."""

    def __init__(self, root: Path, path: Path, floor: int) -> None:
        self.size = 0
        self._root = root
        self._path = path
        self._floor = floor
        self._since_look = 0
        self._beside = _beside(path)
        self._file: IO[bytes] | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with known_errors(self._root):
            file = self._open_file()
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        self.size += len(data)
        self._since_look += len(data)
        if self._since_look >= LOOK_BYTES:
            self._since_look = 0
            with known_errors(self._root):
                self._look()

    def commit(self) -> None:
        with known_errors(self._root):
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
        """Raises OSError for a disk that has no more than the floor left."""
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


@contextlib.contextmanager
def writing(store: ObjectStore, key: str) -> Iterator[ObjectWriter]:
    """A writer that commits when the block ends, and leaves nothing when it raises."""
    writer = store.writer(key)
    try:
        yield writer
        writer.commit()
    except BaseException:
        writer.abort()
        raise


def cut(segments: Iterable[Segment], start: int, stop: int) -> list[Segment]:
    """The bytes [start, stop) of the concatenation of `segments`. Of streams only whole ones can be had."""
    result: list[Segment] = []
    position = 0
    for segment in segments:
        length = len(segment) if isinstance(segment, bytes) else segment.length
        first, last = max(start - position, 0), min(stop - position, length)
        if first < last:
            result.append(_slice(segment, first, last))
        position += length
    return result


def _slice(segment: Segment, first: int, last: int) -> Segment:
    if isinstance(segment, bytes):
        return segment[first:last]
    if isinstance(segment, FileRange):
        return FileRange(segment.path, segment.offset + first, last - first)
    if (first, last) != (0, segment.length):
        raise ValueError("a stream cannot be cut; ask its store for the range")
    return segment


def read_segment(segment: Segment, chunk: int = CHUNK) -> Iterator[bytes]:
    """The bytes of one segment, those of memory and files at most `chunk` at a time."""
    if isinstance(segment, bytes):
        yield segment
    elif isinstance(segment, StreamRange):
        yield from segment.open()
    else:
        yield from _read_file(segment, chunk)


def _read_file(segment: FileRange, chunk: int) -> Iterator[bytes]:
    remaining = segment.length
    with open(segment.path, "rb", buffering=0) as file:
        file.seek(segment.offset)
        while remaining > 0:
            data = file.read(min(chunk, remaining))
            if not data:
                raise EOFError(f"{segment.path.name} is {remaining} bytes shorter than recorded")
            remaining -= len(data)
            yield data


def _beside(path: Path) -> Path:
    return path.with_name(TEMPORARY + path.name)
