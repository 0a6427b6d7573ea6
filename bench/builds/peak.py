"""Peak memory of a build, in processes that have loaded what builds need and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from builder.names.image_name import parse_specs
from builder.service import BuilderService
from builder.settings import BuilderSettings
from tests.support.storage.stores import open_stores

CORES = os.cpu_count() or 1


def peak_memory(root: Path, channel: str) -> float:
    """Peak resident memory in bytes of any process that builds the package `huge` of `channel`."""

    async def measure_peak() -> float:
        async with service(root, channel) as opened:
            lock = await opened.lock(parse_specs(["huge"], opened.builder.settings))
            await opened.builder.image(lock)
            here = psutil.Process()
            return max(_read_peak(process.pid) for process in [here, *here.children(recursive=True)])

    return asyncio.run(measure_peak())


@contextlib.asynccontextmanager
async def service(root: Path, channel: str) -> AsyncIterator[BuilderService]:
    settings = BuilderSettings(channels=(channel,), workers=CORES)
    async with open_stores(root) as stores:
        async with BuilderService.open(settings, root, stores.catalog, stores.blobs) as opened:
            yield opened


def _read_peak(pid: int) -> float:
    """VmHWM, proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(float(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
