"""Installs packages of the cache under a prefix, in workers: directories first, then packages in shares.

All directories are made before any link is, so every file and link is made in a real directory below the prefix. None
of them replaces or follows what is there: a package that lists a path twice, or below a link, fails at the kernel too.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from builder.archives.archive import ArchiveLimits
from builder.environments.directories.cache import CachedPackage, StoredFile, read_cached
from builder.environments.directories.extraction import set_aside
from builder.environments.directories.places import telling
from builder.environments.directories.prefix_files import check_room, write_new, write_replaced
from builder.errors import PackageRefused
from builder.image.environment_layer import write_history
from builder.locks.description import find_newest
from builder.locks.lock import Lock, LockedPackage
from builder.packages.contents import PackageContents, PythonLayout, place
from builder.packages.differences import Differences, PathFacts
from builder.packages.entry_point import write_entry_point
from builder.packages.overlap import PathRoom, find_overlaps
from builder.packages.paths import check_reserved
from builder.packages.prefix import LongString
from builder.packages.prefix_record import WrittenFile, write_paths, write_prefix_record
from builder.work.worker import working_on
from storage.disk.privacy import masked
from storage.errors import PackagesGone

T = TypeVar("T")

READABLE = 0o022
"""The umask for environments: who may enter the directory above may read them."""

_PIECE = 1 << 20
_META = "conda-meta"
_FROZEN = f"{_META}/frozen"
_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""A file cannot be linked: another file system, too many links, or one that has none."""


@dataclass(frozen=True)
class Installation:
    """One platform's packages to install at `prefix`, in picklable form. They go into `folder`, which moves there."""

    packages: Path
    """The cache."""
    lock: Lock
    platform: str
    folder: Path
    prefix: Path
    limits: ArchiveLimits

    @property
    def python(self) -> PythonLayout | None:
        return PythonLayout.among(self.lock.packages[self.platform])


@dataclass(frozen=True)
class Plan:
    """What the packages' paths say together, by package name."""

    excluded: Mapping[str, tuple[str, ...]]
    """Paths that another package wins."""
    paths: Mapping[str, int]
    """How many paths a package has."""
    scripts: Mapping[str, Sequence[str]]
    """Link scripts, which are never run, of the packages that have some."""


@dataclass(frozen=True)
class Share:
    """Packages that one worker installs, each with the paths that it leaves out."""

    installation: Installation
    packages: Sequence[tuple[LockedPackage, tuple[str, ...]]]


def plan_installation(installation: Installation) -> Plan:
    """Check the packages together, and make their directories.

    Raises PackageRefused, PathConflict, PackagesGone, StorageFull, StorageUnavailable.
    """
    room = PathRoom(installation.limits)
    pairs: list[tuple[LockedPackage, PackageContents]] = []
    for package in installation.lock.packages[installation.platform]:
        contents = _place(installation, _read(installation, package))
        room.take(str(package), len(contents.targets), sum(map(len, contents.targets)))
        pairs.append((package, contents))
    overlaps = find_overlaps(pairs)
    directories = {_META}.union(*(contents.directories for _, contents in pairs))
    with telling(installation.prefix), masked(READABLE):
        for directory in sorted(directories):
            # a worker that died may have made it
            with suppress(FileExistsError), _explaining(pairs[0][1]):
                os.mkdir(f"{installation.folder}/{directory}")
    return Plan(
        overlaps.excluded,
        {package.name: len(contents.targets) for package, contents in pairs},
        {str(package): list(contents.link_scripts) for package, contents in pairs if contents.link_scripts},
    )


def install_share(share: Share) -> None:
    """Install some packages. What a worker that died left is replaced.

    Raises PackageRefused, PackagesGone, StorageFull, StorageUnavailable.
    """
    installation = share.installation
    requested = {item.name: item.match_spec() for item in installation.lock.spec.items}
    with masked(READABLE):
        for package, excluded in share.packages:
            with working_on(str(package)), telling(installation.prefix):
                _Package(installation, package, excluded).install(requested.get(package.name))


def finish_installation(installation: Installation) -> None:
    """Write what belongs to no package, and flush everything. Raises StorageFull, StorageUnavailable."""
    lock, platform = installation.lock, installation.platform
    modified = find_newest(lock.packages[platform]) // 1000
    own = {f"{_META}/history": write_history(lock, platform), _FROZEN: write_frozen(installation.prefix)}
    with telling(installation.prefix), masked(READABLE):
        for path, content in own.items():
            _make(f"{installation.folder}/{path}", partial(write_new, pieces=[content], mode=0o644, modified=modified))
        os.chmod(installation.folder, 0o755)  # noqa: S103 - whoever may enter the namespace's folder uses it
        sync_file_system(installation.folder)


def write_frozen(prefix: Path) -> bytes:
    """Write the file by which conda, mamba and pixi leave an environment alone (CEP 22)."""
    message = (
        f"condery made {prefix} from a lock and will make the next build as a new directory; what is changed here is "
        "lost. Change the environment in condery instead."
    )
    return json.dumps({"message": message}).encode() + b"\n"


def sync_file_system(path: Path) -> None:
    """Flush the file system of `path`: thousands of links are flushed at once, not one by one. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(descriptor)


def _read(installation: Installation, package: LockedPackage) -> CachedPackage:
    cached = read_cached(installation.packages, package)
    if cached is None:
        raise PackagesGone([str(package)])
    return cached


def _place(installation: Installation, cached: CachedPackage) -> PackageContents:
    contents = place(cached.contents, installation.python, installation.limits)
    check_reserved(contents.package, contents.targets, contents.directories)
    if _FROZEN in contents.targets or _FROZEN in contents.directories:
        raise PackageRefused(contents.package, f"it has {_FROZEN}, which belongs to the environment itself")
    check_room(contents, str(installation.prefix))
    return contents


class _Package:
    """One package on its way under the prefix."""

    def __init__(self, installation: Installation, package: LockedPackage, excluded: tuple[str, ...]) -> None:
        self._package = package
        self._cached = _read(installation, package)
        self._contents = _place(installation, self._cached)
        self._excluded = frozenset(excluded)
        self._folder = str(installation.folder)
        self._prefix = str(installation.prefix)
        self._patched_time = self._contents.timestamp + 1
        self._written: dict[str, WrittenFile] = {}
        self._packaged: dict[int, PathFacts] = {}

    def install(self, requested: str | None) -> None:
        with _explaining(self._contents):
            try:
                self._install_files()
            except FileNotFoundError:
                if not os.path.isdir(f"{self._folder}/{_META}"):
                    raise  # nobody waits for this any more
                # the cached package is gone, or was written to
                set_aside(self._cached.folder)
                raise PackagesGone([str(self._package)]) from None
            self._write_entry_points()
            self._write_record(requested)

    def _install_files(self) -> None:
        left_out = self._excluded.union(f"bin/{entry.command}" for entry in self._contents.entry_points)
        placeholders, no_link, files = self._contents.placeholders, self._contents.no_link, self._cached.files
        for index, (target, stored) in enumerate(zip(self._contents.targets, self._cached.stored, strict=True)):
            if stored is None or target in left_out:
                continue
            path = f"{self._folder}/{target}"
            if isinstance(stored, str):
                _make(path, partial(os.symlink, stored))
            elif index in placeholders:
                self._replace(index, path, stored)
            elif index in no_link:
                _copy(self._cached.path(stored), files[stored], path)
            else:
                _link(self._cached.path(stored), files[stored], path)

    def _replace(self, index: int, path: str, number: int) -> None:
        target, file = self._contents.targets[index], self._cached.files[number]
        cached, placeholder = self._cached.path(number), self._contents.placeholders[index]
        try:
            self._written[target], self._packaged[index] = _make(
                path,
                lambda new: write_replaced(new, cached, file, placeholder, self._prefix, self._patched_time),
            )
        except LongString as error:
            raise PackageRefused(self._contents.package, f"{target} {error}") from None

    def _write_entry_points(self) -> None:
        python = self._contents.python
        for entry in self._contents.entry_points:
            target = f"bin/{entry.command}"
            if python and target not in self._excluded:
                script = write_entry_point(entry, self._prefix, python)
                self._written[target] = _make(
                    f"{self._folder}/{target}",
                    partial(write_new, pieces=[script], mode=0o755, modified=self._patched_time),
                )

    def _write_record(self, requested: str | None) -> None:
        paths = write_paths(self._contents, self._written, self._excluded, self._find_differences())
        start = next(paths)
        pieces = [write_prefix_record(self._package, requested), start[1:], *paths]
        _make(
            f"{self._folder}/{_META}/{self._package}.json",
            partial(write_new, pieces=pieces, mode=0o644, modified=self._patched_time),
        )

    def _find_differences(self) -> dict[str, PathFacts]:
        contents = self._contents
        differences = Differences()
        for index, packaged in self._packaged.items():
            listed = PathFacts("f", contents.sizes[index], contents.sha256[index])
            differences.compare(contents.targets[index], listed, packaged)
        if self._cached.found:
            targets = dict(zip(contents.sources, contents.targets, strict=True))
            differences.found |= {targets[source]: facts for source, facts in self._cached.found.items()}
        return differences.found


@contextmanager
def _explaining(contents: PackageContents) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PackageRefused(contents.package, "it has a path that is too long for this file system") from None
        raise


def _make(path: str, make: Callable[[str], T]) -> T:
    """Call `make(path)`. What is there already was left by a worker that died."""
    try:
        return make(path)
    except FileExistsError:
        os.unlink(path)
        return make(path)


def _link(cached: str, stored: StoredFile, path: str) -> None:
    if not stored.is_still(os.lstat(cached)):
        raise FileNotFoundError(cached)
    try:
        os.link(cached, path, follow_symlinks=False)
    except FileExistsError:
        os.unlink(path)
        os.link(cached, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        _copy(cached, stored, path)


def _copy_new(cached: str, path: str) -> None:
    with open(cached, "rb") as file:
        write_new(path, iter(partial(file.read, _PIECE), b""), 0o644)


def _copy(cached: str, stored: StoredFile, path: str) -> None:
    """Copy a file that cannot be a link. It is as read-only as the linked ones."""
    if not stored.is_still(os.lstat(cached)):
        raise FileNotFoundError(cached)
    _make(path, partial(_copy_new, cached))
    os.utime(path, ns=(stored.modified, stored.modified))
    os.chmod(path, 0o555 if stored.executable else 0o444)
