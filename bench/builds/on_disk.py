"""Environments on disk, compared with `rattler.install` of the same packages, and with one more of them."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import rattler

from bench.builds.bare import rattler_record
from bench.builds.build import ONE_MORE, SPECS
from bench.builds.peak import CORES, service
from bench.row import Row
from builder.environments.directories.directories import Directories
from builder.environments.directories.settings import DirectorySettings
from builder.locks.lock import Lock
from builder.names.image_name import parse_specs
from builder.work.pool import WorkerPool
from storage.layout import DataDirectory
from tests.support.builder.directories import PLATFORM, fetch_local
from tests.support.sample import sample_channel


def measure(*, short: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as work:
        return asyncio.run(measure_in(Path(work), SPECS[:2] if short else SPECS, 2 if short else 9))


async def measure_in(work: Path, specs: tuple[str, ...], repetitions: int) -> list[Row]:
    lock, similar = await solve(work, specs), await solve(work, (*specs, ONE_MORE))
    settings = DirectorySettings(environments_directory=work / "envs")
    data = DataDirectory(work / "data")
    # rattler gives way to nobody either
    async with WorkerPool(CORES, niceness=0) as pool:
        await pool.warm()
        async with Directories.open(settings, data, pool, fetch_local, workers=CORES) as directories:
            assert directories is not None
            return [
                await beside_rattler(work, directories, lock, repetitions),
                await one_more(directories, lock, similar),
            ]


async def solve(work: Path, specs: tuple[str, ...]) -> Lock:
    async with service(work / "service", sample_channel().as_uri()) as opened:
        return await opened.lock(parse_specs(specs, opened.builder.settings))


async def beside_rattler(work: Path, directories: Directories, lock: Lock, repetitions: int) -> Row:
    """Installations in turn, so that other load on the machine affects both alike; medians. Both have the packages
    unpacked from the first one, which does not count."""
    packages = lock.packages[PLATFORM]
    records = [rattler_record(package, Path(package.url.removeprefix("file://"))) for package in packages]
    ours, theirs = [], []
    for repetition in range(repetitions + 1):
        name = f"repetition{repetition}"
        ours.append(await timed(lambda: install_here(directories, lock, name)))  # noqa: B023 - called at once
        theirs.append(await timed(lambda: install_there(work / "rattler" / name, work / "cache", records)))  # noqa: B023
    note = f"{len(packages)} packages, unpacked before; ours is flushed to disk and published"
    return Row(
        "environment on disk", statistics.median(ours[1:]), "s", 1.2, "at most", "rattler.install",
        statistics.median(theirs[1:]), note,
    )  # fmt: skip


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    # do not wait for what the previous measurement has left to be written
    os.sync()
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


async def install_here(directories: Directories, lock: Lock, name: str) -> None:
    await directories.make("team", name, "1", lock, PLATFORM)
    await directories.publish("team", name, "1")


async def install_there(prefix: Path, cache: Path, records: list[rattler.RepoDataRecord]) -> None:
    await rattler.install(
        records, target_prefix=prefix, cache_dir=cache, show_progress=False, execute_link_scripts=False
    )


async def one_more(directories: Directories, lock: Lock, similar: Lock) -> Row:
    """What one more environment, with one more package that is in the cache already, adds to the disk."""
    await directories.make("team", "warm", "1", similar, PLATFORM)
    first = await directories.make("team", "first", "1", lock, PLATFORM)
    second = await directories.make("team", "second", "1", similar, PLATFORM)
    alone = await asyncio.to_thread(used, first)
    added = await asyncio.to_thread(used, first, second) - alone
    names = {package.name for package in similar.packages[PLATFORM]} - {
        package.name for package in lock.packages[PLATFORM]
    }
    return Row(
        "a similar environment's new bytes", added / 1e6, "MB", 0.1, "at most", "the first one's bytes", alone / 1e6,
        f"with {len(names)} packages more: directories, and files with another prefix",
    )  # fmt: skip


def used(*folders: Path) -> int:
    """The bytes that folders take on disk together, each file once."""
    found: dict[int, int] = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            status = path.lstat()
            found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())
