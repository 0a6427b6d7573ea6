"""Compresses tar bytes into one stream and hashes both sides in the same pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from builder.layers.codec import CODEC

CHUNK = 1 << 18
"""Bytes passed to the codec at a time. The compressed bytes depend on it, so it is part of a fragment's format."""

_WRITE = 1 << 20
"""Bytes written at a time. In small pieces, the file system takes half as long again."""


class Hasher(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...


class Compressor:
    """Takes tar bytes and writes them as one stream of CODEC, hashing both sides in the same pass.

    Whatever the pieces it gets, the codec sees the same chunks of `chunk` bytes.
    """

    def __init__(
        self, write: Callable[[bytes], object], compressed: Hasher, uncompressed: Hasher, chunk: int = CHUNK
    ) -> None:
        self._write = write
        self._compressed = compressed
        self._uncompressed = uncompressed
        self._chunk = chunk
        self._compression = CODEC.compress()
        self._buffer = bytearray()
        self._unwritten: list[bytes] = []
        self._unwritten_size = 0
        self.size = 0
        self.uncompressed_size = 0

    @property
    def room(self) -> int:
        """Bytes that complete the current chunk. Whole chunks added after that are not copied."""
        return self._chunk - len(self._buffer)

    def add(self, *pieces: bytes | memoryview) -> None:
        for piece in pieces:
            if len(self._buffer) + len(piece) < self._chunk:
                self._buffer += piece
            else:
                self._add_chunks(memoryview(piece))

    def _add_chunks(self, piece: memoryview) -> None:
        start = 0
        if self._buffer:
            start = self.room
            self._buffer += piece[:start]
            self._consume(self._buffer)
            self._buffer = bytearray()
        while start + self._chunk <= len(piece):
            self._consume(piece[start : start + self._chunk])
            start += self._chunk
        self._buffer += piece[start:]

    def finish(self) -> None:
        self._consume(self._buffer)
        self._emit(self._compression.flush())
        self._flush()
        self._buffer = bytearray()

    def _consume(self, data: bytearray | memoryview) -> None:
        self.uncompressed_size += len(data)
        self._uncompressed.update(data)
        self._emit(self._compression.compress(data))

    def _emit(self, data: bytes) -> None:
        self.size += len(data)
        self._compressed.update(data)
        self._unwritten.append(data)
        self._unwritten_size += len(data)
        if self._unwritten_size >= _WRITE:
            self._flush()

    def _flush(self) -> None:
        self._write(b"".join(self._unwritten))
        self._unwritten, self._unwritten_size = [], 0
