"""Installs a wheel's files: links into the cache, programs with their first line, and what installers write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from builder.environments.directories.package_files import PackageFiles
from builder.environments.directories.prefix_files import clamp_time, replace_file
from builder.packages.prefix_record import WrittenFile
from builder.packages.wheels.installation import is_program, list_generated, rewrite_script
from builder.packages.wheels.zip_archive import PIECE


class WheelFiles(PackageFiles):
    """A wheel of the cache on its way into an environment. Use `open`."""

    def install(self, made: set[str], requested: str | None) -> None:
        """Install the wheel, which has no record of conda's. Raises PackageRefused, OSError."""
        contents = self._contents
        self._make_directories(made)
        modified = clamp_time(contents.timestamp)
        scripts: dict[int, WrittenFile] = {}
        for index, (target, stored) in enumerate(zip(contents.targets, self._files.stored, strict=True)):
            if not isinstance(stored, int) or target in self._excluded:
                continue
            written = self._write_script(index, stored, modified) if is_program(contents, index) else None
            if written:
                scripts[index] = written
            else:
                self._link(stored, target)
        for target, content, mode in list_generated(contents, self._prefix, scripts):
            if target not in self._excluded:
                replace_file(self._folder, target, [content], mode, modified)

    def _write_script(self, index: int, number: int, modified: int) -> WrittenFile | None:
        """Write a program that names `#!python`; None for others."""
        with self._open(number) as packaged:
            script = rewrite_script(self._contents, index, packaged.read(PIECE), _read(packaged), self._prefix)
            if script is None:
                return None
            return replace_file(self._folder, self._contents.targets[index], script.pieces, 0o755, modified)


def _read(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
