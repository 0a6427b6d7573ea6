"""archive.tar.gz of an environment, compared with isal's gzip over the same bytes."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from isal import isal_zlib

from bench.builds.build import SPECS
from bench.builds.peak import CORES
from bench.row import Row
from builder.artifacts.artifact import ARCHIVE, Artifact, make_artifact_key
from builder.names.image_name import parse_specs
from builder.service import BuilderService
from builder.settings import BuilderSettings
from registry.serving.server import rest_collector
from tests.support.sample import sample_channel
from tests.support.storage.stores import open_stores

MUST = 0.5
CHUNK = 1 << 18


def measure(*, short: bool) -> list[Row]:
    specs = SPECS[:2] if short else SPECS
    channel = sample_channel().as_uri()
    with tempfile.TemporaryDirectory() as work:
        return [against_gzip(channel, specs, 1 if short else 5, Path(work))]


def against_gzip(channel: str, specs: Sequence[str], repetitions: int, work: Path) -> Row:
    """The archive from downloaded packages with nothing else cached, and gzip alone in one process, in turn; medians.

    Ours reads, checks, decompresses, hashes, compresses and stores; its peer compresses what is in memory.
    """
    ours, theirs = [], []
    for repetition in range(repetitions):
        os.sync()
        root = work / f"archive-{repetition}"
        seconds, content = asyncio.run(pack(root, channel, specs))
        shutil.rmtree(root)
        plain = gzip.decompress(content)
        ours.append(len(plain) / seconds)
        theirs.append(len(plain) / time_gzip(plain))
    note = f"{len(plain) / 1e6:.0f} MB, {CORES} processes"
    return Row(
        "archive.tar.gz", statistics.median(ours) / 1e6, "MB/s", MUST, "at least",
        "isal level 1, one process", statistics.median(theirs) / 1e6, note,
    )  # fmt: skip


def time_gzip(plain: bytes) -> float:
    """Seconds to gzip `plain`; the result is thrown away."""
    begun = time.perf_counter()
    compressor = isal_zlib.compressobj(1, wbits=31)
    view = memoryview(plain)
    for start in range(0, len(view), CHUNK):
        compressor.compress(view[start : start + CHUNK])
    compressor.flush()
    return time.perf_counter() - begun


async def pack(root: Path, channel: str, specs: Sequence[str]) -> tuple[float, bytes]:
    """Seconds from the lock to the stored archive, and the archive's bytes."""
    settings = BuilderSettings(channels=(channel,), workers=CORES)
    async with open_stores(root) as stores:
        async with BuilderService.open(settings, root, stores.catalog, stores.blobs) as service:
            await service.builder.warm()
            lock = await service.lock(parse_specs(specs, settings))
            rest_collector()
            begun = time.perf_counter()
            await service.builder.artifact(lock, ARCHIVE)
            seconds = time.perf_counter() - begun
            document = await stores.catalog.artifacts.find(make_artifact_key(lock.key, ARCHIVE))
            assert document is not None, "it was just made"
            return seconds, await stores.blobs.content(Artifact.from_json(document).digest)
