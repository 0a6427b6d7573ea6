"""Bytes under opaque keys: the material of blobs and upload sessions.

A key is made once, written once and never reused. So a deletion that comes late, after a crash or over a slow
connection, deletes what it was meant to: no newer bytes can be under the same key.
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
    """A whole object of `size` bytes, as part of another."""

    key: str
    size: int


class ObjectWriter(Protocol):
    """An object being written. Methods block; use it from one thread at a time."""

    @property
    def size(self) -> int:
        """Bytes taken so far."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; the caller may change `data` afterwards. Raises StorageFull, StorageUnavailable."""

    def commit(self) -> None:
        """When this returns, the whole object is readable and on stable storage."""

    def abort(self) -> None:
        """Leave nothing behind. May be called twice, and does nothing after `commit`."""


class ObjectStore(Protocol):
    """Bytes by key. Methods block and may be called from any thread; all raise StorageUnavailable."""

    @property
    def buffered(self) -> int:
        """The most bytes of memory that a writer needs, except for very large objects."""

    def writer(self, key: str) -> ObjectWriter:
        """A writer of a new object, which does not exist before its `commit`."""

    def segments(self, key: str, start: int, stop: int) -> Sequence[Segment]:
        """The bytes [start, stop) of an object at least that long; raises ObjectMissing at once or during the read."""

    def concatenate(self, key: str, parts: Sequence[ObjectPart]) -> None:
        """Make a new object of the content of `parts` in order, as durable as a written one. The parts stay."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, and what a writer that never ended left of them. Unknown keys are ignored."""

    def link(self, key: str, *, media_type: str) -> str | None:
        """A URL where anybody may GET the object for a short while; None if the server has to send the bytes."""

    def check(self) -> None:
        """Raise StorageError if the store cannot be written to or read."""


def new_key() -> str:
    """A key that nothing else has ever used or will use."""
    return uuid.uuid4().hex


@contextlib.contextmanager
def writing(store: ObjectStore, key: str) -> Iterator[ObjectWriter]:
    """Yield a writer that commits when the block ends, and leaves nothing if it raises."""
    writer = store.writer(key)
    try:
        yield writer
        writer.commit()
    except BaseException:
        writer.abort()
        raise
