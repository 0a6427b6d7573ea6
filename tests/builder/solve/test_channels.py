"""Channels to solve from: unavailable, with credentials, changed, and served from the copy on disk."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rattler.index import index_fs

from builder.errors import ChannelUnavailable, LoginsFileUnusable
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from tests.support.builder.packages import Package
from tests.support.builder.solving import SECRET, make_channel, spec, stems
from tests.support.servers.channel_server import ChannelServer


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:1/gone", "no connection to 127.0.0.1:1"),
        ("file:///nowhere/at/all", "/nowhere/at/all/noarch/repodata.json: No such file"),
        ("ftp://example.org/c", "scheme"),
        (f"https://u:{SECRET}@example.org/c", "credentials file"),
        (f"https://example.org/t/{SECRET}/c", "credentials file"),
        # rattler asks the port of https, whatever the address says
        ("oci://127.0.0.1:1/gone", "leave the port out"),
    ],
)
async def test_unavailable_channels(solver: Solver, address: str, reason: str) -> None:
    with pytest.raises(ChannelUnavailable, match=reason) as caught:
        await solver.solve(spec("lib", channel=address))
    assert caught.value.transient
    assert SECRET not in str(caught.value)


async def test_a_channel_that_is_not_there(solver: Solver, server: ChannelServer) -> None:
    with pytest.raises(ChannelUnavailable, match=r"noarch/repodata.json does not exist"):
        await solver.solve(spec("lib", channel=f"{server.url}/nothing"))
    server.fail("", status=500, times=99)
    with pytest.raises(ChannelUnavailable, match="500"):
        await solver.solve(spec("lib", channel=server.url))


@pytest.mark.parametrize(
    ("credential", "authorization"),
    [
        (
            {"BasicHTTP": {"username": "u", "password": SECRET}},
            "Basic " + base64.b64encode(f"u:{SECRET}".encode()).decode(),
        ),
        ({"BearerToken": SECRET}, f"Bearer {SECRET}"),
    ],
)
async def test_credentials(
    settings: SolverSettings,
    tmp_path: Path,
    channel: Path,
    logged: list[MutableMapping[str, Any]],
    credential: object,
    authorization: str,
) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"127.0.0.1": credential}))
    async with ChannelServer(channel, authorization=authorization) as private:
        async with Solver(replace(settings, credentials=file)) as solver:
            lock = await solver.solve(spec("lib", channel=private.url))
            assert private.requests[-1].headers["Authorization"] == authorization
            assert SECRET not in json.dumps(lock.to_json())
            private.authorization = "Basic changed"
            await solver.refresh()
            with pytest.raises(ChannelUnavailable, match=r"401.*credentials") as caught:
                await solver.solve(spec("app", channel=private.url))
            assert SECRET not in str(caught.value)
    assert SECRET not in str(logged)


async def test_a_conda_token_stays_out_of_the_lock(
    settings: SolverSettings, tmp_path: Path, channel: Path, logged: list[MutableMapping[str, Any]]
) -> None:
    (tmp_path / "site" / "t").mkdir(parents=True)
    (tmp_path / "site" / "t" / SECRET).symlink_to(channel)
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"127.0.0.1": {"CondaToken": SECRET}}))
    async with ChannelServer(tmp_path / "site") as private, Solver(replace(settings, credentials=file)) as solver:
        lock = await solver.solve(spec("lib", channel=private.url))
        assert private.requests[-1].path.startswith(f"/t/{SECRET}/")
        assert lock.packages["linux-64"][0].url.startswith(f"{private.url}/linux-64/")
        with pytest.raises(ChannelUnavailable, match="404") as caught:
            await solver.solve(spec("lib", channel=f"{private.url}/nothing"))
    assert SECRET not in json.dumps(lock.to_json()) + str(caught.value) + str(logged)


async def test_bad_credentials_are_told_at_the_start(settings: SolverSettings, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{")
    with pytest.raises(LoginsFileUnusable):
        await Solver(replace(settings, credentials=tmp_path / "credentials.json")).__aenter__()


async def test_a_local_channel_is_looked_at_on_every_use(solver: Solver, channel: Path) -> None:
    assert stems(await solver.solve(spec("lib", channel=channel.as_uri()))) == ["lib-2.0-cuda_0"]
    await make_channel(channel, Package("lib", version="3.0"), Package("new"))
    assert stems(await solver.solve(spec("lib", "new", channel=channel.as_uri()))) == ["lib-3.0-0", "new-1.0-0"]


@pytest.mark.parametrize("shards", [True, False])
async def test_a_server_is_asked_again_by_a_refresh(
    settings: SolverSettings, server: ChannelServer, channel: Path, shards: bool
) -> None:
    if not shards:
        server.fail("shards.msgpack.zst", status=404, times=999)
    async with Solver(settings) as solver:
        await solver.solve(spec("lib", channel=server.url))
        server.requests.clear()
        await make_channel(channel, Package("lib", version="3.0"))
        assert stems(await solver.solve(spec("lib", channel=server.url))) == ["lib-2.0-cuda_0"]
        assert not server.requests, "warm repodata asks nothing of the server"
        await solver.refresh()
        assert stems(await solver.solve(spec("lib", channel=server.url))) == ["lib-3.0-0"]


async def test_refreshes_happen_by_themselves(settings: SolverSettings, server: ChannelServer, channel: Path) -> None:
    async with Solver(replace(settings, refresh=0.05)) as solver:
        await solver.solve(spec("lib", channel=server.url))
        await make_channel(channel, Package("lib", version="3.0"))
        async with asyncio.timeout(20):
            while stems(await solver.solve(spec("lib", channel=server.url))) != ["lib-3.0-0"]:
                await asyncio.sleep(0.05)


async def test_the_copy_on_disk_serves_while_a_channel_is_unreachable(
    settings: SolverSettings, channel: Path, logged: list[MutableMapping[str, Any]]
) -> None:
    async with ChannelServer(channel) as server, Solver(settings) as solver:
        await solver.solve(spec("app", channel=server.url))
    async with Solver(settings) as solver:
        assert "app-1.0-0" in stems(await solver.solve(spec("app", channel=server.url)))
        async with asyncio.timeout(20):
            while "cannot be reached" not in str(logged):
                await asyncio.sleep(0.01)
        await make_channel(channel, Package("app", version="2.0", depends=["lib"]))
        async with ChannelServer(channel, port=server.port):
            await solver.refresh()
            assert stems(await solver.solve(spec("app", channel=server.url)))[-1] == "app-2.0-0"


async def test_the_copy_serves_also_who_waited_longer(
    settings: SolverSettings, channel: Path, server: ChannelServer
) -> None:
    """Another request has found out meanwhile that the channel is unreachable."""
    both = [replace(spec("app", channel=server.url), platforms=(each,)) for each in ("linux-64", "linux-aarch64")]
    await make_channel(channel, Package("app", subdir="linux-aarch64"))
    async with Solver(settings) as solver:
        first = await asyncio.gather(*map(solver.solve, both))
    names = ("repodata_shards.msgpack.zst", "repodata.json.zst", "repodata.json")
    for name in names:
        server.fail(f"linux-64/{name}", status=400, times=99)
        server.fail(f"linux-aarch64/{name}", status=400, times=99)
    held = [server.hold(f"linux-aarch64/{name}") for name in names]
    async with Solver(settings) as solver:
        second = asyncio.create_task(solver.solve(both[1]))
        async with asyncio.timeout(20):
            while not any(each.reached.is_set() for each in held):
                await asyncio.sleep(0.02)
        assert await solver.solve(both[0]) == first[0]
        for each in held:
            each.released.set()
        assert await second == first[1]


async def test_a_shard_that_is_gone_makes_the_index_be_read_again(
    solver: Solver, server: ChannelServer, channel: Path
) -> None:
    await solver.solve(spec("lib", channel=server.url))
    for shard in (channel / "linux-64" / "shards").iterdir():
        shard.unlink()
    (channel / "linux-64" / "old-app-1.0-0.conda").unlink()
    await make_channel(channel, Package("old-app", version="1.1"))
    await index_fs(channel, force=True)
    assert stems(await solver.solve(spec("old-app", channel=server.url))) == ["old-app-1.1-0"]


async def test_a_channel_that_does_not_answer_costs_its_own_request_alone(
    settings: SolverSettings, server: ChannelServer, channel: Path
) -> None:
    server.fail("", cut_after=10, stall=True, times=99)
    async with Solver(replace(settings, seconds=1)) as solver:
        process = solver.pid
        hanging = asyncio.create_task(solver.solve(spec("lib", channel=server.url)))
        assert stems(await solver.solve(spec("lib", channel=channel.as_uri()))) == ["lib-2.0-cuda_0"]
        with pytest.raises(ChannelUnavailable, match=r"no complete answer within 0\.8 s"):
            await hanging
        assert solver.pid == process
