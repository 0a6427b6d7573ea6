"""Which build of an environment is the current one: where its link points to.

The link is replaced by a rename, so who reads it gets the old build or the new one.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from builder.environments.directories.places import Place, telling
from storage.disk.files import TEMPORARY, sync_directory
from storage.errors import StorageUnavailable

_READABLE = 0o755


def make_folders(place: Place) -> None:
    """Make the folders that everybody may enter. One that exists is left as the administrator made it."""
    with telling(place.links):
        for folder in (place.root, place.folder, place.links):
            make_folder(folder)


def make_folder(folder: Path) -> None:
    """Make a folder that everybody may enter, and those above it. Raises OSError."""
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
        # the server's umask gives nothing to others
        folder.chmod(_READABLE)


def publish(place: Place, build: str) -> Path:
    """Make the link to the build's directory, which is complete, and return the link.

    After an error the old build is still current. Raises DirectoryUnsuitable, StorageFull, StorageUnavailable.
    """
    directory = place.directory(build)
    with telling(place.link), changing(place):
        if not (directory / "conda-meta" / "frozen").is_file():
            raise StorageUnavailable(f"the directory {directory}", "it is not there; build the environment again")
        note_end(place)
        temporary = place.links / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            # relative, so that the root may be moved or mounted elsewhere by those who only read
            os.symlink(f"../{directory.name}", temporary)
            os.replace(temporary, place.link)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(place.links)
    return place.link


def withdraw(place: Place) -> None:
    """Remove the link: the environment is gone, and none of its builds is current. Raises StorageUnavailable."""
    with telling(place.link), changing(place):
        note_end(place)
        place.link.unlink(missing_ok=True)
        sync_directory(place.links)


def find_current(place: Place) -> str | None:
    """Return the current build, or None if there is none."""
    try:
        return place.read_build(os.path.basename(os.readlink(place.link)))
    except FileNotFoundError:
        return None


def note_end(place: Place) -> None:
    """Note on the current directory, by its time, that it is about to be current no longer.

    It is noted before the change: a directory that stays current after a crash loses nothing by it.
    """
    if current := find_current(place):
        with suppress(FileNotFoundError):
            os.utime(place.directory(current))


@contextmanager
def changing(place: Place) -> Iterator[None]:
    """Let nobody else change which builds of the namespace are current, or remove one, in any process."""
    make_folders(place)
    descriptor = os.open(place.links, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_temporary_links(links: Path) -> int:
    """Remove the links that a crash left half published, and return how many."""
    removed = 0
    with suppress(FileNotFoundError):
        for name in os.listdir(links):
            path = links / name
            if name.startswith(TEMPORARY) and path.is_symlink():
                path.unlink(missing_ok=True)
                removed += 1
    return removed
