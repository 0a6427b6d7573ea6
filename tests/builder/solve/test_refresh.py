"""Refreshes of channels, by the requests that a real channel server sees."""

from __future__ import annotations

from pathlib import Path

import pytest
from rattler.index import index_fs

from builder.errors import ChannelUnavailable
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from tests.support.builder.packages import Package
from tests.support.builder.solving import ANY_CHANNEL, lib
from tests.support.servers.channel_server import ChannelServer


async def make(folder: Path, version: str) -> None:
    (folder / "noarch").mkdir(parents=True, exist_ok=True)
    Package("lib", version=version).conda(folder)
    await index_fs(folder)


async def test_only_channels_that_loaded_and_are_used_are_refreshed(tmp_path: Path) -> None:
    await make(tmp_path / "good", "1")
    async with (
        ChannelServer(tmp_path) as server,
        Solver(SolverSettings(tmp_path / "repodata", ANY_CHANNEL, seconds=30, refresh=0)) as solver,
    ):
        for number in range(20):
            with pytest.raises(ChannelUnavailable):
                await solver.solve(lib(f"{server.url}/nothing{number}"))
        await solver.solve(lib(f"{server.url}/good"))
        for _ in range(2):
            server.requests.clear()
            await solver.refresh()
            assert server.requests
            assert all(request.path.startswith("/good/") for request in server.requests)
        server.requests.clear()
        await solver.refresh()
        assert not server.requests
        assert await solver.channels() == []


async def test_a_channel_that_hangs_delays_no_other(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        await make(tmp_path / name, "1")
    async with (
        ChannelServer(tmp_path / "good") as good,
        ChannelServer(tmp_path / "bad") as bad,
        Solver(SolverSettings(tmp_path / "repodata", ANY_CHANNEL, seconds=3, refresh=0)) as solver,
    ):
        for server in (good, bad):
            await solver.solve(lib(server.url))
            await make(server.directory, "2")
        bad.fail("", times=999, cut_after=10, stall=True)
        await solver.refresh()
        versions = [(await solver.solve(lib(server.url))).packages["linux-64"][0].version for server in (good, bad)]
        assert versions == ["2", "1"]


async def test_the_channels_that_are_kept_are_bounded(tmp_path: Path) -> None:
    for number in range(4):
        await make(tmp_path / f"c{number}", "1")
    settings = SolverSettings(tmp_path / "repodata", ANY_CHANNEL, seconds=30, refresh=0, repodata_channels=2)
    async with ChannelServer(tmp_path) as server, Solver(settings) as solver:
        for number in range(4):
            await solver.solve(lib(f"{server.url}/c{number}"))
        assert await solver.channels() == [f"{server.url}/c2/", f"{server.url}/c3/"]
