"""Peers of a build: the bare C libraries over the same bytes, and the obvious way without condery.

Both work on the archives of a lock, the largest first, with as many processes as condery has.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import tarfile
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, cast

import rattler
import zstandard
from isal import isal_zlib

from builder.locks.lock import LockedPackage

CHUNK = 1 << 20


def transcode_bare(archive: Path) -> int:
    """zstd decompress, sha256 of the result, isal level 1, sha256 of that; nothing is parsed or written."""
    opened, closed = hashlib.sha256(), hashlib.sha256()
    compressor = isal_zlib.compressobj(1, wbits=31)
    size = 0
    with zipfile.ZipFile(archive) as file:
        (payload,) = [name for name in file.namelist() if name.startswith("pkg-")]
        with file.open(payload) as stream:
            for chunk in zstandard.ZstdDecompressor().read_to_iter(stream, read_size=CHUNK, write_size=CHUNK):
                size += len(chunk)
                opened.update(chunk)
                closed.update(compressor.compress(chunk))
    closed.update(compressor.flush())
    return size


def bare_libraries(archives: Sequence[Path], processes: int) -> tuple[float, int]:
    """Seconds for all archives, and their uncompressed bytes."""
    ordered = sorted(archives, key=lambda path: path.stat().st_size, reverse=True)
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(abs, range(processes)))
        begun = time.perf_counter()
        size = sum(pool.map(transcode_bare, ordered))
        return time.perf_counter() - begun, size


def install_and_tar(records: Sequence[rattler.RepoDataRecord], work: Path) -> float:
    """Seconds for rattler.install, then one layer by tarfile with gzip level 6, starting with a cold package cache."""
    begun = time.perf_counter()
    prefix = work / "prefix"
    asyncio.run(rattler.install(list(records), target_prefix=prefix, cache_dir=work / "cache", show_progress=False))
    with gzip.open(work / "layer.tar.gz", "wb", compresslevel=6) as compressed:
        with tarfile.open(fileobj=compressed, mode="w|") as tar:
            tar.add(prefix, arcname="opt/conda")
    return time.perf_counter() - begun


def rattler_record(package: LockedPackage, archive: Path) -> rattler.RepoDataRecord:
    """The locked package as rattler's record, from the file `archive`, whose hash rattler verifies."""
    record = rattler.PackageRecord(
        name=package.name,
        version=package.version,
        build=rattler.BuildString(package.build),
        build_number=package.build_number,
        subdir=package.subdir,
        noarch=cast(Any, package.noarch),
        depends=list(package.depends),
        constrains=list(package.constrains),
        sha256=bytes.fromhex(package.sha256) if package.sha256 else None,
        md5=bytes.fromhex(package.md5) if package.md5 else None,
        size=package.size,
        license=package.license,
        python_site_packages_path=package.python_site_packages_path,
    )
    return rattler.RepoDataRecord(record, package.file_name, archive.as_uri(), archive.parent.as_uri())
