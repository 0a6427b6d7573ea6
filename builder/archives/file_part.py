"""A part of a file that stands for its bytes, when these are too many to hold in memory or pass between processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class FilePart:
    """`size` bytes of the file `path`, from `start` on."""

    path: Path
    start: int
    size: int

    @classmethod
    def of(cls, path: Path, start: int = 0) -> FilePart:
        """Return the whole file from `start` on. Raises FileNotFoundError."""
        return cls(path, start, path.stat().st_size - start)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes. Raises FileNotFoundError, or EOFError if the file has become shorter."""
        left = self.size
        with open(self.path, "rb") as file:
            file.seek(self.start)
            while left:
                piece = file.read(min(_PIECE, left))
                if not piece:
                    raise EOFError(self.path)
                left -= len(piece)
                yield piece
