"""Bytes under opaque keys: what blobs and upload sessions are made of.

A key is made once, written once and never used again. So whoever deletes late, after a crash or on a slow connection,
deletes what it meant to delete: no newer bytes can be under the same key.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.objects.segments import Segment


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
