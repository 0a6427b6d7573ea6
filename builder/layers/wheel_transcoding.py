"""Writes the files of a wheel as tar members, in one pass over its zip."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from builder.archives.archive import ArchiveLimits
from builder.archives.tar import make_header, pad
from builder.packages.contents import PackageContents
from builder.packages.differences import LINES
from builder.packages.prefix_record import WrittenFile
from builder.packages.wheels.files import read_files
from builder.packages.wheels.installation import (
    describe_unlisted,
    is_program,
    list_generated,
    rewrite_script,
)
from builder.packages.wheels.zip_archive import ZipMember


class WheelTranscoding:
    """One pass over a wheel's members."""

    def __init__(
        self,
        contents: PackageContents,
        prefix: str,
        add: Callable[[bytes | memoryview], object],
        *,
        relocatable: bool = False,
        excluded: Iterable[str] = (),
    ) -> None:
        """`add` takes the members' bytes. The `excluded` paths belong to other packages."""
        self._contents = contents
        self._prefix = None if relocatable else prefix
        self._root = "" if relocatable else prefix.strip("/") + "/"
        self._add = add
        self._excluded = frozenset(excluded)
        self._scripts: dict[int, WrittenFile] = {}

    def copy_all(self, archive: Path, limits: ArchiveLimits) -> None:
        """Write what the wheel at `archive` installs. Raises PackageRefused."""
        for index, member, pieces in read_files(archive, self._contents, limits):
            if is_program(self._contents, index):
                self._copy_program(index, member, pieces)
            else:
                self._write(
                    self._contents.targets[index],
                    pieces,
                    member.size,
                    0o755 if member.executable else 0o644,
                    member.mtime,
                )
        for target, content, mode in list_generated(self._contents, self._prefix, self._scripts):
            self._write(target, [content], len(content), mode, self._contents.timestamp)

    def _copy_program(self, index: int, member: ZipMember, pieces: Iterator[bytes]) -> None:
        target = self._contents.targets[index]
        if target in self._excluded:
            return
        first = next(pieces, b"")
        script = rewrite_script(self._contents, index, first, pieces, self._prefix)
        if script is None:
            self._write(target, chain([first], pieces), member.size, 0o755, member.mtime)
            return
        hasher = hashlib.sha256()
        self._write(target, _hash(script.pieces, hasher), script.size, 0o755, self._contents.timestamp)
        self._scripts[index] = WrittenFile(hasher.hexdigest(), script.size)

    def _write(self, target: str, pieces: Iterable[bytes], size: int, mode: int, mtime: int) -> None:
        if target in self._excluded:
            return
        self._add(make_header(self._root + target, size=size, mode=mode, mtime=mtime))
        for piece in pieces:
            self._add(piece)
        if size & 511:
            self._add(pad(size))

    def describe(self) -> tuple[str, ...]:
        """Describe what the report has to say of the wheel, a line each."""
        lines = describe_unlisted(self._contents)
        more = len(lines) - LINES
        return (*lines[:LINES], f"and {more} more files like these") if more > 0 else tuple(lines)


def _hash(pieces: Iterable[bytes], hasher: hashlib._Hash) -> Iterator[bytes]:
    for piece in pieces:
        hasher.update(piece)
        yield piece
