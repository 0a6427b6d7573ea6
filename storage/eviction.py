"""Bounds on the caches of the data directory: what was used least recently goes first.

Fragments, downloaded packages and channels' indexes can be had again. This looks through their folders, which hold no
blobs: of those the database knows all there is to know.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from storage import tables
from storage.blobs import FRAGMENTS_LOCK, BlobStore
from storage.files import TEMPORARY
from storage.garbage import Step

IN_USE_SECONDS = 3600.0
"""What was used within this time may be in use: a build that runs needs what it has downloaded."""

BATCH = 100


@dataclass(frozen=True)
class Bounds:
    """Bytes that each cache may have; 0 is no bound."""

    fragments: int = 0
    archives: int = 0
    repodata: int = 0


@dataclass(frozen=True)
class Entry:
    """Files that only make sense together, their size in bytes, and when one was last used (UNIX seconds)."""

    name: str
    paths: tuple[Path, ...]
    size: int
    used: float


class Eviction:
    """Keeps the caches of the data directory `root` within their bounds."""

    def __init__(self, root: Path, blobs: BlobStore, bounds: Bounds) -> None:
        self._root = root
        self._blobs = blobs
        self._bounds = bounds

    async def evict(self, *, dry_run: bool = False) -> list[Step]:
        """Delete what is over the bounds; what was deleted of each cache. Raises StorageUnavailable."""
        steps = []
        for name in ("archives", "repodata"):
            entries = await self._over(name, getattr(self._bounds, name))
            if not dry_run:
                await asyncio.to_thread(_remove, entries)
            steps.append(_step(name, entries))
        candidates = await self._over("fragments", self._bounds.fragments)
        free = [entry for batch in _batches(candidates) for entry in await self._release(batch, dry_run)]
        return [*steps, _step("fragments", free)]

    async def _over(self, folder: str, bound: int) -> list[Entry]:
        if not bound:
            return []
        return over(await asyncio.to_thread(survey, self._root / folder), bound, time.time() - IN_USE_SECONDS)

    async def _release(self, entries: Sequence[Entry], dry_run: bool) -> list[Entry]:
        """Those of `entries` that no join needs, deleted while nobody can make a join that does."""
        database, use = self._blobs.database, tables.fragment_use
        query = select(use.c.fragment).where(use.c.fragment.in_([entry.name for entry in entries])).distinct()
        async with database.writing() as connection:
            await database.lock(connection, FRAGMENTS_LOCK)
            needed = set((await connection.execute(query)).scalars())
            free = [entry for entry in entries if entry.name not in needed]
            if not dry_run:
                await asyncio.to_thread(_remove, free)
        return free


def survey(folder: Path) -> list[Entry]:
    """What a cache holds. Files of one name that differ in their suffix belong together."""
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


def _entry(path: Path, files: Iterable[os.DirEntry[str]]) -> Entry | None:
    paths, size, used = [], 0, 0.0
    for each in files:
        with contextlib.suppress(FileNotFoundError):
            status = each.stat(follow_symlinks=False)
            paths.append(Path(each.path))
            size += status.st_size
            used = max(used, status.st_mtime, status.st_atime)
    return Entry(path.name, tuple(paths), size, used) if paths else None


def over(entries: Iterable[Entry], bound: int, before: float) -> list[Entry]:
    """What has to go for the rest to be within `bound`: the least recently used, of what was last used `before`."""
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
            path.unlink(missing_ok=True)


def _batches(entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    return (entries[start : start + BATCH] for start in range(0, len(entries), BATCH))


def _step(cache: str, entries: Sequence[Entry]) -> Step:
    return Step(f"cached {cache}", len(entries), sum(entry.size for entry in entries))
