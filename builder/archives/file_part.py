"""A part of a file, in place of its bytes, where these are too many to be held or passed between processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class FilePart:
    """`size` bytes of the file `path` from `start` on."""

    path: Path
    start: int
    size: int

    @classmethod
    def of(cls, path: Path, start: int = 0) -> FilePart:
        """All of the file from `start` on; raises FileNotFoundError."""
        return cls(path, start, path.stat().st_size - start)

    def pieces(self) -> Iterator[bytes]:
        """The bytes; raises FileNotFoundError, EOFError when the file has become shorter."""
        left = self.size
        with open(self.path, "rb") as file:
            file.seek(self.start)
            while left:
                piece = file.read(min(_PIECE, left))
                if not piece:
                    raise EOFError(self.path)
                left -= len(piece)
                yield piece
