"""The solver's process: killed, replaced, silent, and ended with its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from builder.errors import SolveLimit, WorkerLost
from builder.solve import spare
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from tests.support.builder.solving import spec, stems
from tests.support.servers.channel_server import ChannelServer


async def test_a_process_that_sends_no_frame_is_ended(solver: Solver, channel: Path) -> None:
    wish = spec("lib", channel=channel.as_uri())
    first = await solver.solve(wish)
    for sent in (b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01{", b"\x00\x00\x00\x02{}"):
        child = solver._child
        assert child
        process = psutil.Process(child.pid)
        # as if it had come from there
        child._reader.feed_data(sent)
        async with asyncio.timeout(10):
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.02)
        assert await solver.solve(wish) == first


async def test_what_a_solver_opened_is_closed_when_it_cannot_start(
    settings: SolverSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = Solver(settings)
    monkeypatch.setattr(sys, "executable", "/nothing")
    with pytest.raises(FileNotFoundError):
        await solver.__aenter__()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", urlsplit(solver._proxy.url).port)


async def test_a_spare_solver_that_ends_is_ended_wholly(
    settings: SolverSettings, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when somebody comes at that moment, and leaves."""
    monkeypatch.setattr(spare, "IDLE_SECONDS", 0.1)
    wish = spec("lib", channel=channel.as_uri())
    solver = spare.SpareSolver(settings)

    async def solve() -> Solver:
        async with solver.use() as used:
            await used.solve(wish)
        return used

    first = await solve()
    async with asyncio.timeout(10):
        while solver._solver:
            await asyncio.sleep(0)
    another = asyncio.create_task(solve())
    await asyncio.sleep(0)
    another.cancel()
    await asyncio.gather(another, return_exceptions=True)
    await solver.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", urlsplit(first._proxy.url).port)


async def test_a_killed_process_is_replaced(solver: Solver, channel: Path) -> None:
    wish = spec("app", channel=channel.as_uri())
    first = await solver.solve(wish)
    for _ in range(2):
        assert solver.pid
        os.kill(solver.pid, signal.SIGKILL)
        assert await solver.solve(wish) == first


async def test_a_request_survives_the_death_of_its_process(solver: Solver, server: ChannelServer) -> None:
    server.fail("repodata_shards.msgpack.zst", cut_after=10, stall=True, times=2)
    solving = asyncio.create_task(solver.solve(spec("lib", channel=server.url)))
    async with asyncio.timeout(20):
        while not server.requests:
            await asyncio.sleep(0.01)
    assert solver.pid
    os.kill(solver.pid, signal.SIGKILL)
    server.faults.clear()
    assert stems(await solving) == ["lib-2.0-cuda_0"]


async def test_a_request_whose_process_dies_twice_is_given_up(solver: Solver, channel: Path) -> None:
    async def kill_again_and_again() -> None:
        while True:
            for child in psutil.Process().children():
                if "builder.solve.process" in child.cmdline():
                    child.kill()
            await asyncio.sleep(0.01)

    killing = asyncio.create_task(kill_again_and_again())
    with pytest.raises(WorkerLost, match="solving"):
        await solver.solve(spec("lib", channel=channel.as_uri()))
    killing.cancel()
    assert stems(await solver.solve(spec("lib", channel=channel.as_uri()))) == ["lib-2.0-cuda_0"]


async def test_a_process_that_does_not_answer_is_killed(settings: SolverSettings, channel: Path) -> None:
    async with Solver(replace(settings, seconds=0.5)) as solver:
        await solver.solve(spec("lib", channel=channel.as_uri()))
        stopped = solver.pid
        assert stopped
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(SolveLimit, match=r"time of 0.5 s"):
            await solver.solve(spec("lib", channel=channel.as_uri()))
        assert stems(await solver.solve(spec("lib", channel=channel.as_uri()))) == ["lib-2.0-cuda_0"]
        assert solver.pid != stopped


async def test_the_process_ends_with_its_solver(settings: SolverSettings) -> None:
    async with Solver(settings) as solver:
        assert solver.pid
        process = psutil.Process(solver.pid)
    assert not process.is_running()


async def test_the_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio, pathlib
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
async def main():
    async with Solver(SolverSettings(pathlib.Path({str(tmp_path)!r}))) as solver:
        print(solver.pid, flush=True)
        await asyncio.sleep(3600)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert parent.stdout
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(20):
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)
