"""A tar member that does not come from a package: made here, and written after the copied ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builder.archives import tar
from builder.archives.file_part import FilePart


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file or, if `content` is None, a directory. `path` is relative to the archive's root."""

    path: str
    content: bytes | None
    mode: int = 0o644
    owner: int = 0
    rest: FilePart | None = None
    """What follows `content`."""

    @property
    def size(self) -> int:
        return len(self.content or b"") + (self.rest.size if self.rest else 0)

    def pieces(self, modified: int) -> Iterator[bytes]:
        """Yield the header, the bytes and their padding. `modified` is in seconds UTC."""
        if self.content is None:
            yield tar.make_directory(self.path, mode=self.mode, mtime=modified, owner=self.owner)
            return
        yield tar.make_header(self.path, size=self.size, mode=self.mode, mtime=modified, owner=self.owner)
        yield self.content
        if self.rest:
            yield from self.rest.pieces()
        yield tar.pad(self.size)
