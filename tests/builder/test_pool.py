"""The pool: results, errors and the death of workers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.errors import PackageRefused, WorkerLost
from builder.pool import PRELOAD, WorkerPool

FOREIGN = ("sqlalchemy", "boto3", "aiohttp", "rattler")


def refuse(package: str) -> None:
    raise PackageRefused(package, "it is a test")


def die_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def test_results_and_errors_cross_the_process_boundary() -> None:
    async with WorkerPool(1) as pool:
        assert await pool.run("adding", sum, [1, 2, 3]) == 6
        with pytest.raises(PackageRefused, match="package x is refused: it is a test"):
            await pool.run("refusing", refuse, "x")


async def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path) -> None:
    async with WorkerPool(2) as pool:
        others = [pool.run("sleeping", time.sleep, 0.2) for _ in range(4)]
        results = await asyncio.gather(pool.run("dying", die_once, tmp_path / "died"), *others)
        assert results[0] == "done"


async def test_a_task_that_always_kills_its_worker_is_given_up() -> None:
    async with WorkerPool(1) as pool:
        with pytest.raises(WorkerLost, match="dying"):
            await pool.run("dying", die)
        assert await pool.run("adding", sum, [1]) == 1


def test_workers_know_no_database() -> None:
    """They write fragments alone; and what they import, each build's first workers wait for."""
    modules = [*PRELOAD, "builder.environment"]
    script = f"import sys, {', '.join(modules)}; print([name for name in sys.modules if name in {FOREIGN}])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_closing_does_not_wait_for_a_long_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.pool.CLOSE_SECONDS", 0.2)
    pool = WorkerPool(1)
    await pool.warm()
    task = asyncio.create_task(pool.run("sleeping", time.sleep, 600))
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.wait_for(pool.close(), 60)


async def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, sys
sys.path.insert(0, {os.getcwd()!r})
from builder.pool import WorkerPool
async def main():
    pool = WorkerPool(1)
    print(await pool.run("asking", os.getpid), flush=True)
    await asyncio.sleep(60)
if __name__ == "__main__":
    asyncio.run(main())
"""
    program = tmp_path / "program.py"
    program.write_text(script)
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    worker = int(await asyncio.to_thread(parent.stdout.readline))
    assert Path(f"/proc/{worker}").exists()
    parent.kill()
    await asyncio.to_thread(parent.communicate)
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"worker {worker} still runs 10 s after its parent was killed")
