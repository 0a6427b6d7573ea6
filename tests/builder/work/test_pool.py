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

from builder.errors import MemoryLimit, PackageRefused, WorkerLost
from builder.work.claims import Caller, Claim, on_behalf_of
from builder.work.pool import HEAVY, HEAVY_NICENESS, PRELOAD, WorkerPool
from builder.work.worker import GROWN, NICENESS, working_on

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
    modules = [*PRELOAD, "builder.image.environment_layer_task"]
    script = f"import sys, {', '.join(modules)}; print([name for name in sys.modules if name in {FOREIGN}])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_closing_does_not_wait_for_a_long_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.work.pool.CLOSE_SECONDS", 0.2)
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
from builder.work.pool import WorkerPool
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


def take(size: int) -> int:
    return len(bytes(size))


def die_at(package: str) -> None:
    with working_on(package):
        os.kill(os.getpid(), signal.SIGKILL)


def read_large(package: str) -> None:
    with working_on(package):
        take(1 << 30)


def grow() -> int:
    held.append(b"x" * (GROWN + (1 << 20)))
    return os.getpid()


held: list[bytes] = []


async def test_a_task_that_takes_too_much_memory_fails_with_the_reason() -> None:
    async with WorkerPool(1, memory=256 << 20) as pool:
        with pytest.raises(MemoryLimit, match=r"taking needs more than the 256 MiB .*worker_memory"):
            await pool.run("taking", take, 1 << 30)
        with pytest.raises(
            PackageRefused, match=r"package x is refused: it needs more than the 256 MiB .*worker_memory"
        ):
            await pool.run("reading", read_large, "x")
        assert await pool.run("taking", take, 1 << 20) == 1 << 20


async def test_the_package_that_a_worker_dies_of_is_named() -> None:
    async with WorkerPool(1) as pool:
        with pytest.raises(WorkerLost, match="reading, at package x"):
            await pool.run("reading", die_at, "x")


async def test_the_death_of_a_worker_takes_no_other_task_along(tmp_path: Path) -> None:
    async with WorkerPool(2) as pool:
        pid = asyncio.create_task(pool.run("sleeping", sleep_and_tell, 1.0))
        await asyncio.sleep(0.5)
        with pytest.raises(WorkerLost):
            await pool.run("dying", die)
        begun, ended = await pid
        assert begun == ended


def sleep_and_tell(seconds: float) -> tuple[int, int]:
    begun = os.getpid()
    time.sleep(seconds)
    return begun, os.getpid()


async def test_a_worker_that_has_grown_is_replaced() -> None:
    async with WorkerPool(1) as pool:
        first = await pool.run("asking", os.getpid)
        assert await pool.run("growing", grow) == first
        assert await pool.run("asking", os.getpid) != first
        assert not Path(f"/proc/{first}").exists()


async def test_a_slot_is_taken_until_its_worker_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.work.pool.PATIENCE", 600)
    async with WorkerPool(1) as pool:
        await pool.warm()
        for number in range(3):
            abandoned = asyncio.create_task(pool.run("waiting", wait_for, tmp_path / "end", tmp_path / str(number)))
            if not number:
                async with asyncio.timeout(30):
                    while not (tmp_path / "0").exists():
                        await asyncio.sleep(0.01)
            else:
                await asyncio.sleep(0.05)
            abandoned.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(abandoned, 5)
        assert (pool._lane.taken, pool._lane.waiting) == (1, 0), "what had not begun is no more waited for"
        (tmp_path / "end").touch()
        assert await pool.run("adding", sum, [1]) == 1
        assert not (tmp_path / "1").exists()
    assert pool._lane.taken == 0


async def test_small_tasks_do_not_wait_for_heavy_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.work.pool.PATIENCE", 600)
    stranger, ann = Caller("203.0.113.1"), Caller("ann", signed_in=True)
    async with WorkerPool(1, niceness=HEAVY_NICENESS) as heavy, WorkerPool(1, heavy=heavy) as pool:
        with on_behalf_of(Claim(stranger)):
            waits = [
                asyncio.create_task(pool.run_sized(HEAVY, "waiting", wait_for, tmp_path / "end", tmp_path / str(each)))
                for each in range(3)
            ]
            async with asyncio.timeout(30):
                while not (tmp_path / "0").exists():
                    await asyncio.sleep(0.01)
            assert await pool.run_sized(HEAVY - 1, "adding", sum, [1, 2]) == 3
        assert not any(each.done() for each in waits)
        (tmp_path / "end").touch()
        await asyncio.gather(*waits)
        found = {}
        for caller in (stranger, ann):
            with on_behalf_of(Claim(caller)):
                found[caller] = await pool.run("asking", niceness), await pool.run_sized(HEAVY, "asking", niceness)
        # the kernel knows none above 19
        light, low = (min(os.nice(0) + each, 19) for each in (NICENESS, HEAVY_NICENESS))
        assert found == {stranger: (light, low), ann: (light, light)}, "what somebody signed in wants does not give way"


def niceness() -> int:
    return os.nice(0)


async def test_who_is_signed_in_need_not_wait_for_the_tasks_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.work.pool.PATIENCE", 600)
    async with WorkerPool(1) as pool:
        waiting = asyncio.create_task(pool.run("waiting", wait_for, tmp_path / "end", tmp_path / "begun"))
        with on_behalf_of(Claim(Caller("ann", signed_in=True), lasting=True)):
            assert await pool.run("adding", sum, [1, 2]) == 3
        assert not waiting.done()
        (tmp_path / "end").touch()
        await waiting


def wait_for(end: Path, begun: Path) -> None:
    begun.touch()
    while not end.exists():
        time.sleep(0.01)


async def test_a_worker_whose_answer_cannot_be_read_is_replaced() -> None:
    async with WorkerPool(1) as pool:
        first = await pool.run("asking", os.getpid)
        with pytest.raises(ValueError, match="no such answer"):
            await pool.run("answering", Unreadable)
        assert not pool._busy
        assert await pool.run("asking", os.getpid) != first
        assert not Path(f"/proc/{first}").exists()


class Unreadable:
    """Can be sent, and not received."""

    def __reduce__(self) -> tuple[object, ...]:
        return (fail_to_read, ())


def fail_to_read() -> None:
    raise ValueError("no such answer")
