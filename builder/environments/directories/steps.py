"""The steps of an installation, each in workers: all packages' paths are compared, then packages are installed in
shares, and in the end comes what belongs to no package."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from builder.environments.directories.cache import read_contents
from builder.environments.directories.installation import FROZEN, META, Installation
from builder.environments.directories.package_files import PackageFiles, check_contents
from builder.environments.directories.places import telling
from builder.environments.directories.prefix_files import clamp_time, replace_file
from builder.environments.directories.wheel_files import WheelFiles
from builder.image.environment_layer import write_history
from builder.image.variables import write_state
from builder.locks.description import find_newest
from builder.locks.lock import LockedPackage
from builder.packages.contents import PackageContents
from builder.packages.overlap import PathRoom, find_overlaps
from builder.packages.starting_files import LARGEST, STATE, StartingFile
from builder.work.worker import working_on
from storage.disk.privacy import masked

READABLE = 0o022
"""The umask for environments: who may enter the directory above may read them."""


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
    """Check the packages together.

    Raises PackageRefused, DirectoryUnsuitable, PathConflict, PackagesGone, StorageFull, StorageUnavailable.

    No path of a package is below a link or a file of another after this.
    """
    room = PathRoom(installation.limits)
    pairs: list[tuple[LockedPackage, PackageContents]] = []
    python = installation.python
    for package in installation.lock.packages[installation.platform]:
        contents = installation.place(read_contents(installation.packages, package), package, python)
        check_contents(contents, installation.prefix)
        room.take(str(package), len(contents.targets), sum(map(len, contents.targets)))
        pairs.append((package, replace(contents, sources=(), placeholders={})))
    overlaps = find_overlaps(pairs)
    with telling(installation.prefix), masked(READABLE), suppress(FileExistsError):
        os.mkdir(installation.folder / META)
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
    python = installation.python
    requested = {item.name: item.match_spec() for item in installation.lock.spec.items}
    made: set[str] = set()
    with masked(READABLE):
        for package, excluded in share.packages:
            with working_on(str(package)), telling(installation.prefix):
                kind = WheelFiles if package.is_wheel else PackageFiles
                with kind.open(installation, package, python, excluded) as files:
                    files.install(made, requested.get(package.name))


def finish_installation(installation: Installation) -> None:
    """Write what belongs to no package, and flush everything. Raises StorageFull, StorageUnavailable."""
    lock, platform = installation.lock, installation.platform
    modified = clamp_time(find_newest(lock.packages[platform]) // 1000)
    with telling(installation.prefix), masked(READABLE):
        folder = os.open(installation.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            own = {f"{META}/history": write_history(lock, platform), FROZEN: write_frozen(installation.prefix)}
            if lock.spec.variables:
                own[STATE] = write_state(lock.spec, _read_state(folder))
            for path, content in own.items():
                replace_file(folder, path, [content], 0o644, modified)
            os.fchmod(folder, 0o755)
            sync_file_system(folder)
        finally:
            os.close(folder)


def write_frozen(prefix: Path) -> bytes:
    """Write the file by which conda, mamba and pixi leave an environment alone (CEP 22)."""
    message = (
        f"condery made {prefix} from a lock and will make the next build as a new directory; what is changed here is "
        "lost. Change the environment in condery instead."
    )
    return json.dumps({"message": message}).encode() + b"\n"


def _read_state(folder: int) -> list[StartingFile]:
    """Read the variables that a package has, where the environment's own go."""
    try:
        descriptor = os.open(STATE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return []
    with open(descriptor, "rb") as file:
        content = file.read(LARGEST + 1)
    return [StartingFile("a package", STATE, content)] if len(content) <= LARGEST else []


def sync_file_system(descriptor: int) -> None:
    """Flush the file system of an open folder: thousands of links at once, not one by one. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
