"""Cold builds of python and wheels, compared with the bare C libraries over the same bytes, and with uv, tar and gzip.

What the wheels are is no part of it: they are locked already, and downloaded.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import rattler
from isal import isal_zlib

from bench.builds.bare import CHUNK, rattler_record, transcode_bare
from bench.builds.build import empty
from bench.builds.peak import CORES, service
from bench.row import Row
from builder.locks.lock import Lock, LockedPackage
from builder.names.image_name import parse_specs
from registry.serving.server import rest_collector
from tests.support.sample import sample_channel, wheel_cache
from tests.support.wheels.making import MadeWheel, record_wheel

PLATFORM = "linux-64"
WHEELS = 30
UV = Path(sys.executable).with_name("uv")


@dataclass(frozen=True)
class Built:
    """Seconds of the solve and of the image, and of the same with one more wheel after its lock."""

    cold: float
    one_more: float
    conda: tuple[LockedPackage, ...]


def measure(*, short: bool) -> list[Row]:
    channel = sample_channel().as_uri()
    wheels = choose_wheels(5 if short else WHEELS + 1)
    with tempfile.TemporaryDirectory() as work:
        return against_peers(channel, wheels, 1 if short else 5, Path(work))


def choose_wheels(count: int) -> list[MadeWheel]:
    """Choose the largest wheels of the sample channel, of each distribution one. The last is small, to be added."""
    by_name: dict[str, Path] = {}
    for path in sorted(wheel_cache().glob("*.whl")):
        by_name[path.name.split("-")[0]] = path
    ordered = sorted(by_name.values(), key=lambda path: path.stat().st_size, reverse=True)
    chosen = [*ordered[: count - 1], ordered[len(ordered) // 2]]
    return [MadeWheel(path, record_wheel(path)) for path in chosen]


def against_peers(channel: str, wheels: Sequence[MadeWheel], repetitions: int, work: Path) -> list[Row]:
    """Cold builds and the bare libraries in turn, then uv; medians. See `bench.builds.build.against_peers`."""
    builds, bares, installs = [], [], []
    size = 0
    for repetition in range(repetitions):
        os.sync()
        builds.append(asyncio.run(build(work / f"wheels-{repetition}", channel, wheels)))
        archives = [Path(package.url.removeprefix("file://")) for package in builds[-1].conda]
        bare, size = bare_libraries([*archives, *(wheel.path for wheel in wheels[:-1])])
        bares.append(bare)
        empty(work / f"wheels-{repetition}")
    for repetition in range(min(repetitions, 2)):
        installs.append(install_and_tar(builds[-1].conda, wheels[:-1], work / f"uv-{repetition}"))
        shutil.rmtree(work / f"uv-{repetition}")
    cold = statistics.median(built.cold for built in builds)
    note = f"python and {len(wheels) - 1} wheels, {size / 1e6:.0f} MB, solve of python included, {CORES} processes"
    return [
        Row("cold build of wheels", cold, "s", 1.5, "at most", "zlib, 2x sha256, isal level 1",
            statistics.median(bares), note),
        Row("uv pip install and tar", statistics.median(installs), "s", 5, "at least", "cold build of wheels", cold,
            "rattler.install of python, uv, tarfile, gzip level 6"),
        Row("one more wheel, after the resolve", statistics.median(built.one_more for built in builds), "s", 0.3,
            "at most", note=wheels[-1].record.title),
    ]  # fmt: skip


async def build(root: Path, channel: str, wheels: Sequence[MadeWheel]) -> Built:
    async with service(root, channel) as opened:
        await opened.builder.warm()
        await opened.builder.solver.shared.list_package_names([channel], [PLATFORM, "noarch"])
        records = [each.record for each in wheels]
        for each in wheels:
            downloaded = opened.builder.downloader._path_of(each.record)
            downloaded.parent.mkdir(parents=True, exist_ok=True)
            downloaded.symlink_to(each.path)
        rest_collector()
        begun = time.perf_counter()
        lock = await opened.lock(parse_specs(["python"], opened.builder.settings))
        conda = lock.packages[PLATFORM]
        await opened.builder.image(Lock(lock.spec, {PLATFORM: (*conda, *records[:-1])}))
        built = time.perf_counter()
        await opened.builder.image(Lock(lock.spec, {PLATFORM: (*conda, *records)}))
        return Built(built - begun, time.perf_counter() - built, conda)


def transcode_wheel(archive: Path) -> int:
    """zlib, sha256 of the result, isal level 1, sha256 of that; nothing is parsed or written but the zip itself."""
    opened, closed = hashlib.sha256(), hashlib.sha256()
    compressor = isal_zlib.compressobj(1, wbits=31)
    size = 0
    with zipfile.ZipFile(archive) as file, archive.open("rb") as raw:
        for member in file.infolist():
            raw.seek(member.header_offset + 26)
            lengths = raw.read(4)
            raw.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), os.SEEK_CUR)
            packed = raw.read(member.compress_size)
            content = zlib.decompress(packed, -15) if member.compress_type == zipfile.ZIP_DEFLATED else packed
            size += len(content)
            opened.update(content)
            for start in range(0, len(content), CHUNK):
                closed.update(compressor.compress(content[start : start + CHUNK]))
    closed.update(compressor.flush())
    return size


def transcode(archive: Path) -> int:
    return transcode_wheel(archive) if archive.suffix == ".whl" else transcode_bare(archive)


def bare_libraries(archives: Sequence[Path]) -> tuple[float, int]:
    """Seconds for all archives, and their uncompressed bytes."""
    ordered = sorted(archives, key=lambda path: path.stat().st_size, reverse=True)
    with ProcessPoolExecutor(CORES) as pool:
        list(pool.map(abs, range(CORES)))
        begun = time.perf_counter()
        size = sum(pool.map(transcode, ordered))
        return time.perf_counter() - begun, size


def install_and_tar(conda: Sequence[LockedPackage], wheels: Sequence[MadeWheel], work: Path) -> float:
    """Seconds for python by rattler, wheels by uv, then one layer by tarfile with gzip level 6; all caches are cold."""
    records = [rattler_record(package, Path(package.url.removeprefix("file://"))) for package in conda]
    prefix = work / "prefix"
    command = [str(UV), "pip", "install", "--quiet", "--offline", "--no-config", "--no-index", "--no-deps"]
    command += ["--cache-dir", str(work / "uv"), "--python", str(prefix / "bin/python")]
    begun = time.perf_counter()
    asyncio.run(rattler.install(records, target_prefix=prefix, cache_dir=work / "cache", show_progress=False))
    subprocess.run([*command, *(str(wheel.path) for wheel in wheels)], check=True)
    with gzip.open(work / "layer.tar.gz", "wb", compresslevel=6) as compressed:
        with tarfile.open(fileobj=compressed, mode="w|") as tar:
            tar.add(prefix, arcname="opt/conda")
    return time.perf_counter() - begun
