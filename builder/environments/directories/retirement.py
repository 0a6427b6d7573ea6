"""Removes directories of builds that are no longer wanted, when nothing can be using them any more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from builder.environments.directories.places import Place, telling
from builder.environments.directories.processes import find_used
from builder.environments.directories.publication import changing, find_current, remove_temporary_links
from storage.clock import is_within
from storage.disk.files import TEMPORARY, remove_leftovers, sync_directory, temporary_directory


@dataclass(frozen=True)
class Retired:
    """What became of the builds of an environment that were to go, by their ids."""

    removed: tuple[str, ...]
    kept: dict[str, str]
    """Why each of these is still there: ask again later."""


def retire(place: Place, keep: Collection[str], grace: float) -> Retired:
    """Remove the directories of all builds but those in `keep`, the current one, and those that may be in use.

    One is in use while a process runs from it, and for `grace` seconds after it was current or made. Raises
    StorageUnavailable.
    """
    with telling(place.folder):
        doomed, kept = _choose(place, keep, grace)
        used = find_used(doomed.values())
        removed: list[str] = []
        for build, directory in doomed.items():
            if process := used.get(directory):
                kept[build] = f"process {process} runs from it"
            elif _remove(place, build, directory, grace):
                removed.append(build)
            else:
                kept[build] = "it has become current meanwhile"
    return Retired(tuple(removed), kept)


def list_builds(place: Place) -> list[str]:
    """List the builds that have a directory."""
    try:
        names = os.listdir(place.folder)
    except FileNotFoundError:
        return []
    return sorted(build for name in names if (build := place.read_build(name)) is not None)


def _choose(place: Place, keep: Collection[str], grace: float) -> tuple[dict[str, Path], dict[str, str]]:
    doomed: dict[str, Path] = {}
    kept: dict[str, str] = {}
    current = find_current(place)
    for build in list_builds(place):
        directory = place.directory(build)
        if build in keep:
            continue
        with suppress(FileNotFoundError):
            if build == current:
                kept[build] = "it is current"
            elif is_within(grace, _find_last_day(directory)):
                kept[build] = f"it was current, or made, less than {grace:g} s ago (environments_grace)"
            else:
                doomed[build] = directory
    return doomed, kept


def _find_last_day(directory: Path) -> float:
    """When it was current last, or made. A clock that was ahead starts the grace time anew, rather than to end it."""
    if directory.stat().st_mtime > time.time():
        os.utime(directory)
    return directory.stat().st_mtime


def _remove(place: Place, build: str, directory: Path, grace: float) -> bool:
    """Remove a directory, first from its name and then its files. Returns False if it has become current since."""
    with temporary_directory(place.folder) as aside:
        with changing(place):
            # another process may have removed it meanwhile
            with suppress(FileNotFoundError):
                if find_current(place) == build or is_within(grace, directory.stat().st_mtime):
                    return False
                os.rename(directory, aside / "old")
            sync_directory(place.folder)
    return True


def remove_unfinished(root: Path, stopped: Callable[[], bool] = lambda: False) -> int:
    """Remove what interrupted installations, publications and removals left below `root`, and return how many."""
    folders = list(_list_folders(root))
    links = sum(remove_temporary_links(folder / "envs") for folder in folders)
    return links + remove_leftovers(folders, stopped)


def _list_folders(root: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError), os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(TEMPORARY):
                yield Path(entry.path)
