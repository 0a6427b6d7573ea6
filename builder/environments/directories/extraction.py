"""Unpacks packages into the cache, in a worker, by the same checked reading as for images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from builder.archives.archive import ArchiveLimits
from builder.archives.tar import normalize_mode
from builder.archives.tar_reader import Member, Renamed, TarReader
from builder.environments.directories.cache import (
    StoredFiles,
    is_cached,
    locate,
    read_contents,
    set_aside,
    write_package,
)
from builder.environments.directories.prefix_files import NEW, clamp_time
from builder.layers.fragment import FragmentRecipe
from builder.layers.transcoding import Transcoding
from builder.locks.lock import LockedPackage
from builder.packages.contents import PackageContents
from builder.packages.inspection import inspect_archive
from builder.packages.wheels.files import read_files
from builder.packages.wheels.installation import is_program
from builder.work.worker import working_on
from storage.disk.files import temporary_directory, translate_errors
from storage.layout import DataDirectory


@dataclass(frozen=True)
class Extraction:
    """A package to unpack, and its verified archive."""

    package: LockedPackage
    archive: Path


def extract_all(data: DataDirectory, extractions: Sequence[Extraction], limits: ArchiveLimits) -> None:
    """Unpack the packages that are not cached yet. Raises PackageRefused, StorageFull, StorageUnavailable."""
    for each in extractions:
        if not is_cached(data.packages, each.package):
            with working_on(str(each.package)), translate_errors(data.packages):
                _extract(data, each, limits)


def _extract(data: DataDirectory, extraction: Extraction, limits: ArchiveLimits) -> None:
    package = extraction.package
    contents = inspect_archive(extraction.archive, package, data.contents, limits)
    place = locate(data.packages, package)
    with temporary_directory(data.packages) as folder:
        if contents.wheel is not None:
            files = _unpack_wheel(extraction.archive, contents, folder, limits)
        else:
            job = _Unpacking(contents, package.archive_key, folder, limits)
            job.copy_all(extraction.archive, limits)
            files = job.finish()
        write_package(folder, contents, files)
        _put(folder, place, data, package)


def _unpack_wheel(archive: Path, contents: PackageContents, folder: Path, limits: ArchiveLimits) -> StoredFiles:
    """Write the files of a wheel as numbered files, its programs with the first line that they were packed with."""
    files = StoredFiles.empty(len(contents.sources))
    for index, member, pieces in read_files(archive, contents, limits):
        executable = member.executable or is_program(contents, index)
        _store(folder, index, pieces, executable, member.mtime, files)
    return files


def _put(folder: Path, place: Path, data: DataDirectory, package: LockedPackage) -> None:
    """Give `folder` its final name, unless another process was faster. A broken package there makes way."""
    with suppress(OSError):
        os.rename(folder, place)
        return
    if read_contents(data.packages, package) is None:
        set_aside(place)
        os.rename(folder, place)


class _Unpacking(Transcoding):
    """Writes the members as numbered files, whatever their names are."""

    def __init__(self, contents: PackageContents, archive_key: str, folder: Path, limits: ArchiveLimits) -> None:
        self._folder = folder
        self._rows = {target: index for index, target in enumerate(contents.sources)}
        self._files = StoredFiles.empty(len(contents.sources))
        # nothing is replaced yet, nor left out for a script that is not written yet
        plain = replace(contents, targets=contents.sources, placeholders={}, entry_points=(), python=None)
        recipe = FragmentRecipe(archive_key, "", relocatable=True)
        super().__init__(recipe, plain, _refuse_bytes, folder, limits.text)

    def copy(self, members: TarReader) -> None:
        for member in members:
            self.copy_member(members, member)

    def _write_unchanged(self, pieces: Iterable[bytes | memoryview], member: Member, target: str) -> None:
        executable = normalize_mode(member.mode) == 0o755
        _store(self._folder, self._rows[target], pieces, executable, member.mtime, self._files)

    def _add_symlink(self, target: str, link: str, mtime: int) -> None:
        self._files.stored[self._rows[target]] = link

    def _add_hard_link(self, target: str, origin: Renamed) -> None:
        self._files.stored[self._rows[target]] = self._files.stored[self._rows[origin[0].decode()]]

    def finish(self) -> StoredFiles:
        """Return what was written, after all of it."""
        return replace(self._files, found=self.find_differences().found)


def _store(
    folder: Path, number: int, pieces: Iterable[bytes | memoryview], executable: bool, mtime: int, files: StoredFiles
) -> None:
    modified = clamp_time(mtime) * 10**9
    descriptor = os.open(f"{folder}/{number}", NEW, 0o600)
    try:
        size = _write(descriptor, pieces)
        os.fchmod(descriptor, 0o555 if executable else 0o444)
        os.utime(descriptor, ns=(modified, modified))
    finally:
        os.close(descriptor)
    files.stored[number] = number
    files.sizes[number] = size
    files.modified[number] = modified
    files.executable[number] = executable


def _write(descriptor: int, pieces: Iterable[bytes | memoryview]) -> int:
    size = 0
    for piece in pieces:
        view = memoryview(piece)
        while view:
            written = os.write(descriptor, view)
            view = view[written:]
            size += written
    return size


def _refuse_bytes(piece: bytes | memoryview) -> None:
    raise AssertionError(f"{len(piece)} bytes of a tar were written")
