"""PyPI requirements on top of a conda lock, against uv by itself: what is asked of an index is remembered by both.

The index is on this machine. The conda lock provides distributions that the requirements need, which uv by itself has
to get from the index, too. Each figure is the best of several runs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.row import Row
from builder.pypi.uv import find_program
from tests.support.pypi.index_server import IndexServer
from tests.support.pypi.resolving import PYTHON, provide, resolving

REQUIREMENTS = 20
PROVIDED = 40
VERSIONS = 60
RUNS = 10


def measure(*, short: bool = False) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ours, theirs = asyncio.run(_measure(Path(folder), 3 if short else RUNS))
    return [
        Row(
            f"resolve and lock of {REQUIREMENTS} PyPI requirements, metadata cached",
            ours,
            "s",
            1.3,
            "at most",
            "uv pip compile",
            theirs,
        )
    ]


async def _measure(folder: Path, runs: int) -> tuple[float, float]:
    async with IndexServer() as index:
        _fill(index)
        names = [f"app{number}" for number in range(REQUIREMENTS)]
        packages = [PYTHON, *(provide(f"lib{number}", "5.0") for number in range(PROVIDED))]
        async with resolving(folder, index.url, packages=packages) as resolver:
            await resolver.solve(*names)
            ours = [await _time(resolver.solve(*names)) for _ in range(runs)]
        (folder / "wanted.in").write_text("\n".join(names))
        theirs = [await _time(asyncio.to_thread(_run_uv, folder, index.url)) for _ in range(runs + 1)]
    return min(ours), min(theirs[1:])


async def _time(work: object) -> float:
    begun = time.perf_counter()
    await work  # type: ignore[misc] # either awaitable
    return time.perf_counter() - begun


def _run_uv(folder: Path, index: str) -> None:
    subprocess.run(
        [
            find_program(),
            *("pip", "compile", str(folder / "wanted.in"), "--format", "pylock.toml", "-q", "--no-config"),
            *("--only-binary", ":all:", "--python", sys.executable, "--python-version", "3.12.3"),
            *("--python-platform", "x86_64-manylinux_2_28", "--default-index", index),
            *("--cache-dir", str(folder / "cache")),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _fill(index: IndexServer) -> None:
    """Requirements that need each other, what conda provides, and more of the index."""
    for version in range(1, VERSIONS + 1):
        for number in range(REQUIREMENTS):
            needs = [f"app{number + 1}>=1"] if number + 1 < REQUIREMENTS else []
            shared = [f"lib{(number * 2 + each) % PROVIDED}>=1" for each in range(4)]
            index.add(f"app{number}", f"{version}.0", [*needs, *shared, f"more{number}"])
            index.add(f"more{number}", f"{version}.0")
    for number in range(PROVIDED):
        index.add(f"lib{number}", "5.0")
