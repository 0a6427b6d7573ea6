"""Bounds on the caches of the data directory: the least recently used is evicted first.

Fragments, downloaded packages, channel indexes and what indexes of PyPI packages said can be fetched or made again.
Eviction scans their folders, which hold no blobs: the database knows all of those. A fragment that is part of a stored
layer is content rather than cache. It does not count and is never evicted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.layers import FRAGMENTS_LOCK
from storage.blobs.store import BlobStore
from storage.clock import IN_USE_SECONDS
from storage.database import tables
from storage.database.sql_clock import mend_file
from storage.disk.files import TEMPORARY
from storage.garbage.collection import Step, oldest_build
from storage.layout import DataDirectory

BATCH = 100


@dataclass(frozen=True)
class Bounds:
    """The most bytes for each cache; 0 is no bound."""

    fragments: int = 0
    archives: int = 0
    repodata: int = 0
    pypi: int = 0


@dataclass(frozen=True)
class Entry:
    """Files that belong together, their size in bytes, and the last use of any of them (UNIX seconds)."""

    name: str
    paths: tuple[Path, ...]
    size: int
    used: float


class Eviction:
    """Keeps the caches of the data directory `root` within their bounds."""

    def __init__(self, root: Path, blobs: BlobStore, bounds: Bounds) -> None:
        self._data = DataDirectory(root)
        self._blobs = blobs
        self._bounds = bounds

    async def evict(self, *, dry_run: bool = False) -> list[Step]:
        """Delete what exceeds the bounds; one step for each cache. Raises StorageUnavailable."""
        now = time.time()
        build = await oldest_build(self._blobs.database)
        before = min(now - IN_USE_SECONDS, build if build is not None else now)
        steps = []
        for name, bound, folders in (
            # what was read from an archive is worth as much as the archive
            ("archives", self._bounds.archives, (self._data.archives, self._data.contents)),
            ("repodata", self._bounds.repodata, (self._data.repodata,)),
        ):
            entries = find_excess(await self._survey(*folders), bound, before) if bound else []
            if not dry_run:
                await asyncio.to_thread(_remove, entries)
            steps.append(_step(name, entries))
        steps.append(_step("pypi", await self._evict_pypi(before, dry_run)))
        return [*steps, _step("fragments", await self._evict_fragments(before, dry_run))]

    async def _survey(self, *folders: Path) -> list[Entry]:
        return [entry for folder in folders for entry in await asyncio.to_thread(survey, folder)]

    async def _evict_pypi(self, before: float, dry_run: bool) -> list[Entry]:
        """uv's own folders are evicted whole: what is in one belongs together."""
        if not self._bounds.pypi:
            return []
        whole = self._data.pypi / "uv"
        entries = [each for each in await self._survey(self._data.pypi) if whole not in each.paths[0].parents]
        chosen = find_excess([*entries, *await asyncio.to_thread(_survey_whole, whole)], self._bounds.pypi, before)
        if not dry_run:
            await asyncio.to_thread(_remove, chosen)
        return chosen

    async def _evict_fragments(self, before: float, dry_run: bool) -> list[Entry]:
        database, bound = self._blobs.database, self._bounds.fragments
        if not bound:
            return []
        unneeded: list[Entry] = []
        for batch in _batches(await self._survey(self._data.fragments)):
            async with database.reading() as connection:
                unneeded += await _find_unneeded(connection, batch)
        chosen = find_excess(unneeded, bound, before)
        if dry_run:
            return chosen
        evicted: list[Entry] = []
        for batch in _batches(chosen):
            async with database.writing() as connection:
                # no join can be made of them until they are gone
                await database.lock(connection, FRAGMENTS_LOCK)
                free = await _find_unneeded(connection, batch)
                await asyncio.to_thread(_remove, free)
                evicted += free
        return evicted


async def _find_unneeded(connection: AsyncConnection, entries: Sequence[Entry]) -> list[Entry]:
    """The fragments that no join needs."""
    use = tables.fragment_use
    query = select(use.c.fragment).where(use.c.fragment.in_([entry.name for entry in entries])).distinct()
    needed = set((await connection.execute(query)).scalars())
    return [entry for entry in entries if entry.name not in needed]


def survey(folder: Path) -> list[Entry]:
    """The entries of a cache. Files whose names differ only in their suffix belong together."""
    groups: dict[Path, list[os.DirEntry[str]]] = defaultdict(list)
    folders = [folder]
    while folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as found:
            for each in found:
                if each.is_dir(follow_symlinks=False):
                    folders.append(Path(each.path))
                elif not each.name.startswith(TEMPORARY):
                    groups[Path(each.path).with_name(each.name.partition(".")[0] or each.name)].append(each)
    return [entry for path, files in groups.items() if (entry := _entry(path, files)) is not None]


def _survey_whole(folder: Path) -> list[Entry]:
    """One entry for each folder in it."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        folders = [Path(each.path) for each in found if each.is_dir(follow_symlinks=False)]
        files = [(each, survey(each)) for each in folders]
        return [
            Entry(each.name, (each,), sum(one.size for one in its), max((one.used for one in its), default=0.0))
            for each, its in files
        ]
    return []


def _entry(path: Path, files: Iterable[os.DirEntry[str]]) -> Entry | None:
    paths, size, used = [], 0, 0.0
    for each in files:
        with contextlib.suppress(FileNotFoundError):
            status = each.stat(follow_symlinks=False)
            paths.append(Path(each.path))
            size += status.st_size
            used = max(used, mend_file(Path(each.path), status))
    return Entry(path.name, tuple(paths), size, used) if paths else None


def find_excess(entries: Iterable[Entry], bound: int, before: float) -> list[Entry]:
    """The least recently used entries, last used earlier than `before`, that must go for the rest to fit in `bound`."""
    oldest = sorted(entries, key=lambda entry: (entry.used, entry.name))
    excess = sum(entry.size for entry in oldest) - bound
    chosen: list[Entry] = []
    for entry in oldest:
        if excess <= 0 or entry.used >= before:
            break
        chosen.append(entry)
        excess -= entry.size
    return chosen


def _remove(entries: Iterable[Entry]) -> None:
    for entry in entries:
        for path in entry.paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _batches(entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    return (entries[start : start + BATCH] for start in range(0, len(entries), BATCH))


def _step(cache: str, entries: Sequence[Entry]) -> Step:
    return Step(f"cached {cache}", len(entries), sum(entry.size for entry in entries))
