"""Installs one package's files: links into the cache, files with their prefix, commands, its record.

Directories come before the files in them, and one that is there already has to be a directory. So every file is made
in a real directory below the prefix, whatever a package lists; nothing replaces or follows what is there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self

from builder.environments.directories.cache import StoredFiles, locate, read_contents, read_files, set_aside
from builder.environments.directories.installation import FROZEN, META, Installation
from builder.environments.directories.places import LONGEST_NAME
from builder.environments.directories.prefix_files import again, clamp_time, copy_new, replace_file, write_replaced
from builder.errors import DirectoryUnsuitable, PackageRefused
from builder.locks.lock import LockedPackage
from builder.packages.contents import PackageContents, PythonLayout
from builder.packages.differences import Differences, PathFacts
from builder.packages.entry_point import write_entry_point
from builder.packages.paths import check_reserved
from builder.packages.prefix import LongString
from builder.packages.prefix_record import WrittenFile, write_paths, write_prefix_record
from builder.packages.starting_files import STATE
from storage.errors import PackagesGone, quote

_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""A file cannot be linked: another file system, too many links, or a file system without links."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Absent(Exception):
    """A package is not in the cache, or not as it was unpacked."""


def check_contents(contents: PackageContents, prefix: Path) -> None:
    """Raises PackageRefused, DirectoryUnsuitable if the package cannot be installed at `prefix`, by what it lists."""
    check_reserved(contents.package, contents.targets, contents.directories)
    if taken := {FROZEN}.intersection(contents.targets) | {FROZEN, STATE}.intersection(contents.directories):
        raise PackageRefused(contents.package, f"it has {min(taken)}, which belongs to the environment itself")
    check_names(contents)
    length = len(str(prefix).encode())
    for index, (text, mode) in contents.placeholders.items():
        if mode == "binary" and length > len(text.encode()):
            raise PackageRefused(
                contents.package,
                f"{contents.sources[index]} has room for a prefix of {len(text.encode())} bytes, but {prefix} has "
                f"{length}; give the environment or its namespace a shorter name, or ask the administrator for a "
                "shorter environments_directory",
            )


def check_names(contents: PackageContents) -> None:
    """Raises DirectoryUnsuitable for a path that is fine in an image, and no file system takes."""
    # hundreds of thousands of them, nearly all short
    for path in (each for each in (*contents.targets, *contents.directories) if len(each.encode()) > LONGEST_NAME):
        longest = max(len(name.encode()) for name in path.split("/"))
        if longest > LONGEST_NAME:
            raise DirectoryUnsuitable(
                str(contents.package),
                f"{quote(path, 60)} has a name of {longest} bytes, and file systems take {LONGEST_NAME}; leave the "
                "package out, or use the image",
            )


class PackageFiles:
    """A package of the cache on its way into an environment. Use `open`."""

    def __init__(
        self,
        installation: Installation,
        package: LockedPackage,
        contents: PackageContents,
        files: StoredFiles,
        excluded: Collection[str],
        source: int,
        folder: int,
    ) -> None:
        """`source` and `folder` are open: the package's folder in the cache, and the one to install into."""
        self._prefix = str(installation.prefix)
        self._package = package
        self._contents = contents
        self._files = files
        self._excluded = frozenset(excluded)
        self._source = source
        self._folder = folder
        self._patched_time = clamp_time(contents.timestamp + 1)
        self._written: dict[str, WrittenFile] = {}
        self._packaged: dict[int, PathFacts] = {}

    @classmethod
    @contextmanager
    def open(
        cls,
        installation: Installation,
        package: LockedPackage,
        python: PythonLayout | None,
        excluded: Collection[str],
    ) -> Iterator[Self]:
        """Open a package of the cache. The `excluded` paths belong to other packages.

        Raises PackagesGone, also out of the block, if it is not there whole; it is then removed. Raises PackageRefused
        for paths that the file system cannot have.
        """
        place = locate(installation.packages, package)
        with ExitStack() as stack:
            folder = os.open(installation.folder, _FOLDER)
            stack.callback(os.close, folder)
            try:
                contents = read_contents(installation.packages, package)
                read = read_files(installation.packages, package, contents) if contents else None
                if read is None or not place.is_dir():
                    raise _Absent
                source = os.open(place, _FOLDER)
                stack.callback(os.close, source)
                placed = installation.place(read[0], package, python)
                yield cls(installation, package, placed, read[1], excluded, source, folder)
            except _Absent:
                set_aside(place)
                raise PackagesGone([str(package)]) from None
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                raise PackageRefused(str(package), "it has a path that is too long for the file system") from None

    def install(self, made: set[str], requested: str | None) -> None:
        """Install the package. `made` are the directories that were made before; those that are made now are added.

        `requested` is the match spec if the user asked for the package. Raises PackageRefused, OSError.
        """
        self._make_directories(made)
        self._install_files()
        self._write_entry_points()
        self._write_record(requested)

    def _make_directories(self, made: set[str]) -> None:
        for directory in self._contents.directories:
            if directory in made:
                continue
            try:
                os.mkdir(directory, dir_fd=self._folder)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(directory, dir_fd=self._folder).st_mode):
                    raise PackageRefused(
                        self._contents.package, f"it has files below {directory}, which is a file or link here"
                    ) from None
            made.add(directory)

    def _install_files(self) -> None:
        left_out = self._excluded.union(f"bin/{entry.command}" for entry in self._contents.entry_points)
        placeholders, no_link = self._contents.placeholders, self._contents.no_link
        for index, (target, stored) in enumerate(zip(self._contents.targets, self._files.stored, strict=True)):
            if stored is None or target in left_out:
                continue
            if isinstance(stored, str):
                again(self._folder, target, partial(self._make_symlink, stored))
            elif index in placeholders:
                self._replace(index, stored)
            elif index in no_link:
                self._copy(stored, target)
            else:
                self._link(stored, target)

    def _make_symlink(self, link: str, target: str) -> None:
        os.symlink(link, target, dir_fd=self._folder)

    def _link(self, number: int, target: str) -> None:
        name = str(number)
        self._check(number)
        try:
            os.link(name, target, src_dir_fd=self._source, dst_dir_fd=self._folder, follow_symlinks=False)
        except FileExistsError:
            os.unlink(target, dir_fd=self._folder)
            os.link(name, target, src_dir_fd=self._source, dst_dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            # of the two names, the package's may be gone since
            self._check(number)
            raise
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._copy(number, target)

    def _check(self, number: int) -> None:
        """Raises _Absent unless a file of the cache is what was unpacked."""
        try:
            status = os.lstat(str(number), dir_fd=self._source)
        except FileNotFoundError:
            raise _Absent from None
        if not self._files.is_still(number, status):
            raise _Absent

    def _copy(self, number: int, target: str) -> None:
        """Copy a file that cannot be a link. It is as read-only as the linked ones."""
        mode = 0o555 if self._files.executable[number] else 0o444
        with self._open(number) as packaged:
            again(
                self._folder,
                target,
                lambda path: copy_new(self._folder, path, packaged, mode, self._files.modified[number]),
            )

    def _replace(self, index: int, number: int) -> None:
        target, placeholder = self._contents.targets[index], self._contents.placeholders[index]
        mode = 0o755 if self._files.executable[number] else 0o644
        with self._open(number) as packaged:
            try:
                self._written[target], self._packaged[index] = again(
                    self._folder,
                    target,
                    lambda path: write_replaced(
                        self._folder, path, packaged, mode, placeholder, self._prefix, self._patched_time
                    ),
                )
            except LongString as error:
                raise PackageRefused(self._contents.package, f"{target} {error}") from None

    def _open(self, number: int) -> BinaryIO:
        """Open a file of the cache. Raises _Absent."""
        self._check(number)
        try:
            descriptor = os.open(str(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._source)
        except FileNotFoundError:
            raise _Absent from None
        return open(descriptor, "rb")

    def _write_entry_points(self) -> None:
        python = self._contents.python
        for entry in self._contents.entry_points:
            target = f"bin/{entry.command}"
            if python and target not in self._excluded:
                script = write_entry_point(entry, self._prefix, python)
                self._written[target] = replace_file(self._folder, target, [script], 0o755, self._patched_time)

    def _write_record(self, requested: str | None) -> None:
        paths = write_paths(self._contents, self._written, self._excluded, self._find_differences())
        pieces = [write_prefix_record(self._package, requested), next(paths)[1:], *paths]
        replace_file(self._folder, f"{META}/{self._package}.json", pieces, 0o644, self._patched_time)

    def _find_differences(self) -> dict[str, PathFacts]:
        contents = self._contents
        differences = Differences()
        for index, packaged in self._packaged.items():
            listed = PathFacts("f", contents.sizes[index], contents.sha256[index])
            differences.compare(contents.targets[index], listed, packaged)
        if self._files.found:
            targets = dict(zip(contents.sources, contents.targets, strict=True))
            differences.found |= {targets[source]: facts for source, facts in self._files.found.items()}
        return differences.found
