"""Builds, compared with the bare C libraries over the same bytes, and with installing and tarring."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from sqlalchemy import select

from bench.builds.bare import bare_libraries, install_and_tar, rattler_record
from bench.builds.peak import CORES, peak_memory, service
from bench.row import Row
from builder.locks.lock import Lock
from builder.names.image_name import parse_specs
from registry.serving.server import rest_collector
from storage.blobs.store import BlobStore
from storage.database import tables
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel
from tests.support.sample import sample_channel

P = ParamSpec("P")
T = TypeVar("T")

SPECS = ("python", "numpy", "scipy", "pandas", "jupyterlab")
ONE_MORE = "flask"


@dataclass(frozen=True)
class Built:
    """One build's times in seconds, and the bytes of blobs and fragments after it, by name."""

    solve: float
    image: float
    stored: dict[str, int]
    lock: Lock


def measure(*, short: bool) -> list[Row]:
    specs = SPECS[:2] if short else SPECS
    channel = sample_channel().as_uri()
    with tempfile.TemporaryDirectory() as work:
        return [
            *against_peers(channel, specs, 1 if short else 5, Path(work)),
            *one_more(channel, specs, 1 if short else 5, Path(work)),
            memory(Path(work), (100 if short else 1000) << 20),
        ]


def against_peers(channel: str, specs: Sequence[str], repetitions: int, work: Path) -> list[Row]:
    """Cold builds and the bare libraries in turn, so that other load on the machine affects both alike; medians.

    Each build is emptied before the next: a virtual machine pays for memory that it has never used, and after some
    builds that stay, the kernel takes more than twice as long to cache the files of the next. Its files are not removed
    yet: ext4 gives the numbers of removed files to no other for a minute or more, and searches past all of them for
    each new file, which takes up to a quarter of a build's time.
    """
    builds, bares, installs = [], [], []
    size = 0
    for repetition in range(repetitions):
        # do not wait for what the previous measurement has left to be written
        os.sync()
        built = asyncio.run(build(work / f"cold-{repetition}", channel, specs))
        builds.append(built.solve + built.image)
        packages = built.lock.packages["linux-64"]
        bare, size = bare_libraries([_local(package.url) for package in packages], CORES)
        bares.append(bare)
        empty(work / f"cold-{repetition}")
    # last, since what it leaves to be written and discarded keeps the kernel busy for a long time
    for repetition in range(min(repetitions, 2)):
        records = [rattler_record(package, _local(package.url)) for package in packages]
        installs.append(install_and_tar(records, work / f"install-{repetition}"))
        shutil.rmtree(work / f"install-{repetition}")
    cold, bare, install = (statistics.median(times) for times in (builds, bares, installs))
    note = f"{len(packages)} packages, {size / 1e6:.0f} MB, solve included, {CORES} processes"
    return [
        Row("cold build", cold, "s", 1.5, "at most", "zstd, 2x sha256, isal level 1", bare, note),
        Row(
            "install and tar", install, "s", 5, "at least", "cold build", cold, "rattler.install, tarfile, gzip level 6"
        ),
    ]


def empty(folder: Path) -> None:
    """Free what the files below `folder` take, and leave them there."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)


def one_more(channel: str, specs: Sequence[str], repetitions: int, work: Path) -> list[Row]:
    """The same image with one more small package, over the stores that the first left."""
    times, extras = [], []
    for repetition in range(repetitions):
        root = work / f"more-{repetition}"
        first = asyncio.run(build(root, channel, specs))
        second = asyncio.run(build(root, channel, (*specs, ONE_MORE)))
        times.append(second.image)
        new = {name: size for name, size in second.stored.items() if name not in first.stored}
        extras.append(sum(new.values()))
        expected = sum(size for name, size in new.items() if name.startswith("fragments"))
        environment = max(size for name, size in new.items() if name.startswith("blobs"))
        shutil.rmtree(root)
    asked = {package.name for package in second.lock.packages["linux-64"]}
    added = len(asked - {package.name for package in first.lock.packages["linux-64"]})
    note = (
        f"{added} packages more; {expected / 1e3:.0f} kB of fragments and {environment / 1e3:.0f} kB environment layer"
    )
    return [
        Row("one more package, after the solve", statistics.median(times), "s", 0.5, "at most", note=note),
        Row(
            "its new bytes", extras[-1] / 1e3, "kB", 1.1, "at most", "its fragments and environment layer",
            (expected + environment) / 1e3, "the rest: joins, config, sidecars",
        ),
    ]  # fmt: skip


def memory(work: Path, size: int) -> Row:
    """Peak resident memory of any of condery's processes while it builds a package with one big file.

    They are a separate process and its children: making the package and earlier measurements took memory too, and a
    process keeps its peak.
    """
    channel = in_new_process(huge_package, work / "huge-channel", size)
    peak = in_new_process(peak_memory, work / "huge", channel)
    return Row("memory for a large package", peak / 2**20, "MiB", 300, "at most", note=f"one file of {size >> 20} MiB")


def huge_package(directory: Path, size: int) -> str:
    """A channel whose one package has a file of `size` bytes, half of them compressible; returns its URL."""
    content = b"".join(os.urandom(1 << 19) + bytes(1 << 19) for _ in range(size >> 20))
    return asyncio.run(make_channel(directory, [Package(name="huge", files={"share/huge": File(content)})]))


def in_new_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


async def build(root: Path, channel: str, specs: Sequence[str]) -> Built:
    """One build over `root`, with warm processes and garbage collector settings like a server's."""
    async with service(root, channel) as opened:
        await opened.builder.warm()
        await opened.builder.solver.shared.list_package_names([channel], ["linux-64", "noarch"])
        rest_collector()
        begun = time.perf_counter()
        lock = await opened.lock(parse_specs(specs, opened.builder.settings))
        solved = time.perf_counter()
        await opened.builder.image(lock)
        ended = time.perf_counter()
        stored = await joins(opened.builder.blobs)
    stored |= {
        str(path.relative_to(root)): path.stat().st_size
        for folder in ("blobs", "fragments")
        for path in (root / folder).rglob("*")
        if path.is_file()
    }
    return Built(solved - begun, ended - solved, stored, lock)


async def joins(blobs: BlobStore) -> dict[str, int]:
    """The layers that the database has: the lists of their parts."""
    query = select(tables.blob.c.digest, tables.blob.c.parts).where(tables.blob.c.key.is_(None))
    async with blobs.database.reading() as connection:
        return {f"joins/{row.digest}": len(row.parts) for row in await connection.execute(query)}


def _local(url: str) -> Path:
    return Path(url.removeprefix("file://"))
