"""Content as it is served: runs of bytes in memory, ranges of files, and streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20
"""Bytes that are copied at a time."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """`length` bytes of the file `path` from `offset`."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class StreamRange:
    """`length` bytes that each call of `open()` yields in chunks; for stores that are not local."""

    open: Callable[[], Iterator[bytes]]
    length: int


Segment = bytes | FileRange | StreamRange
"""Content is served as segments in order: bytes from memory, file ranges by sendfile, streams by copying."""


def cut(segments: Iterable[Segment], start: int, stop: int) -> list[Segment]:
    """The bytes [start, stop) of the concatenation of `segments`. A stream cannot be cut."""
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
    """Yield the bytes of a segment; those of memory and files at most `chunk` at a time."""
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
