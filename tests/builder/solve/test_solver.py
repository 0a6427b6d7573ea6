from __future__ import annotations

import asyncio
import base64
import datetime
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import structlog
from rattler.index import index_fs

from builder.channels.policy import ChannelPolicy
from builder.errors import (
    ChannelUnavailable,
    CredentialsInvalid,
    SolveError,
    SolveLimit,
    UnknownPackage,
    Unsatisfiable,
    WorkerLost,
)
from builder.locks.lock import Lock, LockedPackage, order_by_dependency
from builder.names.spec import Constraint, EnvironmentSpec, PackageItem
from builder.solve import lanes as solving
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from builder.solve.virtual_packages import list_virtual_packages
from tests.support.builder.packages import Package
from tests.support.servers.channel_server import ChannelServer

REAL = Path(os.environ.get("CONDERY_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "repodata/conda-forge"
SECRET = "s3cret"
ANY_CHANNEL = ChannelPolicy(others="all")
"""These are on this machine."""
DAY = 86_400_000


async def make_channel(path: Path, *packages: Package) -> Path:
    (path / "noarch").mkdir(parents=True, exist_ok=True)
    for package in packages:
        package.conda(path)
    await index_fs(path)
    return path


@pytest.fixture
async def channel(tmp_path: Path) -> Path:
    """An application over a library of two versions, a dependency nobody has, and one on a newer glibc."""
    return await make_channel(
        tmp_path / "channel",
        Package("app", depends=["lib >=1", "python"], noarch="python"),
        Package("lib", version="1.0", timestamp=DAY * 18_000),
        Package("lib", version="2.0", build="cuda_0", timestamp=DAY * 19_000),
        Package("python", version="3.12.1", python_site_packages_path="lib/python3.12/site-packages", depends=["pip"]),
        Package("pip", noarch="python", depends=["python"]),
        Package("old-app", depends=["lib <2"]),
        Package("broken", depends=["nothing-has-this"]),
        Package("modern", depends=["__glibc >=2.40"]),
        Package("gpu", depends=["__cuda >=12"]),
    )


@pytest.fixture
async def server(channel: Path) -> AsyncIterator[ChannelServer]:
    async with ChannelServer(channel) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> SolverSettings:
    return SolverSettings(tmp_path / "repodata", ANY_CHANNEL, seconds=30, refresh=0)


@pytest.fixture
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What this process logs meanwhile, what the solver's process says included."""
    with structlog.testing.capture_logs() as events:
        yield events


@pytest.fixture
async def solver(settings: SolverSettings) -> AsyncIterator[Solver]:
    async with Solver(settings) as running:
        yield running


def spec(*items: str | PackageItem, channel: str, until: datetime.date | None = None) -> EnvironmentSpec:
    wishes = tuple(PackageItem(item) if isinstance(item, str) else item for item in items)
    return EnvironmentSpec(wishes, (channel,), until=until)


def item(name: str, *constraints: tuple[str, str], build: str | None = None, channel: str | None = None) -> PackageItem:
    return PackageItem(name, channel, tuple(Constraint(*constraint) for constraint in constraints), build)


def stems(lock: Lock, platform: str = "linux-64") -> list[str]:
    return [str(package) for package in lock.packages[platform]]


async def test_a_lock(solver: Solver, server: ChannelServer) -> None:
    wish = spec("app", channel=server.url, until=datetime.date(2030, 1, 1))
    lock = await solver.solve(wish)
    assert stems(lock) == ["lib-2.0-cuda_0", "python-3.12.1-0", "app-1.0-0", "pip-1.0-0"]
    assert lock.spec == replace(wish, until=None)
    assert Lock.from_json(json.loads(json.dumps(lock.to_json()))) == lock
    lib, python, app, _ = lock.packages["linux-64"]
    assert lib.url == f"{server.url}/linux-64/lib-2.0-cuda_0.conda"
    assert (lib.channel, lib.subdir, lib.timestamp, lib.noarch) == (server.url, "linux-64", DAY * 19_000, None)
    assert python.python_site_packages_path == "lib/python3.12/site-packages"
    assert (app.noarch, app.subdir, app.depends) == ("python", "noarch", ("lib >=1", "python"))
    assert app.size
    assert app.sha256
    assert app.md5


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (item("lib", ("<", "2")), "lib-1.0-0"),
        (item("lib", (">=", "1"), ("!=", "2.0")), "lib-1.0-0"),
        (item("lib", ("=", "1")), "lib-1.0-0"),
        (item("lib", ("~=", "1.0")), "lib-1.0-0"),
        (item("lib", build="*cuda*"), "lib-2.0-cuda_0"),
        (item("lib", ("==", "2.0"), build="cuda*"), "lib-2.0-cuda_0"),
    ],
)
async def test_constraints(solver: Solver, channel: Path, wish: PackageItem, expected: str) -> None:
    assert stems(await solver.solve(spec(wish, channel=channel.as_uri()))) == [expected]


def forget_index_dates(channel: Path) -> None:
    """Make the channel one of those, like conda-forge, that do not say since when they have a package."""
    for path in channel.glob("*/repodata.json"):
        document = json.loads(path.read_text())
        for record in document["packages.conda"].values():
            record.pop("indexed_timestamp", None)
        path.write_text(json.dumps(document))
        for other in (*path.parent.glob("*.zst"), *path.parent.glob("*.msgpack.zst")):
            other.unlink(missing_ok=True)


async def test_as_of_a_day(solver: Solver, channel: Path) -> None:
    forget_index_dates(channel)
    last = datetime.date(1970, 1, 1) + datetime.timedelta(days=19_000)
    for day, expected in ((last, "lib-2.0-cuda_0"), (last - datetime.timedelta(days=1), "lib-1.0-0")):
        assert stems(await solver.solve(spec("lib", channel=channel.as_uri(), until=day))) == [expected]
    with pytest.raises(Unsatisfiable, match=r"no lib in .* is as old as 2000-01-01; the oldest is 1.0 of 2019"):
        await solver.solve(spec("lib", channel=channel.as_uri(), until=datetime.date(2000, 1, 1)))


async def test_as_of_a_day_the_channel_had_not_got_it(solver: Solver, channel: Path) -> None:
    """What counts is since when a package could be had, where the channel says that."""
    today = datetime.datetime.now(datetime.UTC).date()
    with pytest.raises(Unsatisfiable, match=f"the oldest is .* of {today.year}"):
        await solver.solve(spec("lib", channel=channel.as_uri(), until=today - datetime.timedelta(days=2)))


async def test_platforms_and_single_items_of_other_channels(solver: Solver, tmp_path: Path, channel: Path) -> None:
    other = await make_channel(
        tmp_path / "other",
        Package("tool", depends=["lib"], noarch="generic"),
        Package("lib", version="9.0", noarch="generic"),
        Package("lib", version="9.0", subdir="linux-aarch64"),
    )
    wish = EnvironmentSpec(
        (item("lib"), item("tool", channel=other.as_uri())), (channel.as_uri(),), ("linux-64", "linux-aarch64")
    )
    lock = await solver.solve(wish)
    assert stems(lock) == ["lib-2.0-cuda_0", "tool-1.0-0"], (
        "the first channel that has a package is the only one for it"
    )
    assert stems(lock, "linux-aarch64") == ["lib-9.0-0", "tool-1.0-0"]
    assert {package.channel for package in lock.packages["linux-64"]} == {channel.as_uri(), other.as_uri()}
    explicit = EnvironmentSpec((item("lib", channel=other.as_uri()),), (channel.as_uri(),))
    assert stems(await solver.solve(explicit)) == ["lib-9.0-0"]


async def test_channels_by_name(settings: SolverSettings, channel: Path) -> None:
    async with Solver(replace(settings, policy=replace(ANY_CHANNEL, alias=channel.parent.as_uri()))) as solver:
        lock = await solver.solve(EnvironmentSpec((item("lib", channel="channel"),), ("channel",)))
    assert [package.channel for package in lock.packages["linux-64"]] == ["channel"]


@pytest.mark.parametrize(
    ("wish", "error", "reason"),
    [
        (item("libb"), UnknownPackage, r"no package libb for linux-64 in .*; did you mean lib\?"),
        (item("lib.1.0"), UnknownPackage, r"did you mean lib.like.1.0\?"),
        (item("lib", (">", "2")), Unsatisfiable, "no lib >2 in .*; there is 1.0, 2.0"),
        (item("lib", ("==", "1.0"), build="*cuda*"), Unsatisfiable, "no build of lib ==1.0 .* 'cuda'; there is 0"),
        (item("python", ("==", "3.12")), Unsatisfiable, r"there is 3.12.1; did you mean python.like.3.12\?$"),
        (item("python", ("==", "3.12"), ("<", "4")), Unsatisfiable, r"did you mean python.lt.4.like.3.12\?$"),
        (item("python", ("==", "3.12"), build="*0*"), Unsatisfiable, r"did you mean python.like.3.12.build.0\?$"),
        (item("python", ("==", "3.12"), build="0"), Unsatisfiable, r'did you mean python =3.12\[build="0"\]\?$'),
        (item("python", ("==", "3.11")), Unsatisfiable, r"no python ==3.11 in .*; there is 3.12.1$"),
        (item("python", ("==", "3.12"), (">", "3.13")), Unsatisfiable, r"there is 3.12.1$"),
        (item("broken"), Unsatisfiable, "broken 1.0 would require\n.*nothing-has-this, for which no candidates"),
        (item("modern"), Unsatisfiable, r"__glibc >=2.40, and the image has __glibc 2.28"),
        (item("gpu"), Unsatisfiable, "__cuda >=12, and the image has no __cuda"),
    ],
)
async def test_reasons(solver: Solver, channel: Path, wish: PackageItem, error: type[SolveError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        await solver.solve(spec("python", wish, channel=channel.as_uri()))


async def test_conflicts_are_told_in_few_words(solver: Solver, channel: Path) -> None:
    with pytest.raises(Unsatisfiable) as caught:
        await solver.solve(spec("old-app", item("lib", (">=", "2")), channel=channel.as_uri()))
    assert "old-app" in caught.value.reason
    assert "lib <2" in caught.value.reason
    assert "Cannot solve the request" not in caught.value.reason
    with pytest.raises(Unsatisfiable, match="conda has no such platform"):
        await solver.solve(EnvironmentSpec((item("lib"),), (channel.as_uri(),), ("linux-99",)))


async def test_virtual_packages_are_the_servers_decision(settings: SolverSettings, channel: Path) -> None:
    async with Solver(replace(settings, glibc="2.41")) as solver:
        assert stems(await solver.solve(spec("modern", channel=channel.as_uri()))) == ["modern-1.0-0"]
        wish = replace(spec("gpu", channel=channel.as_uri()), virtual_packages=(("__cuda", "12.4"),))
        assert stems(await solver.solve(wish)) == ["gpu-1.0-0"]
    assert ("__archspec", "1", "x86_64") in list_virtual_packages("linux-64", "2.28")
    assert ("__glibc", "2.28", "0") in list_virtual_packages("linux-aarch64", "2.28")
    assert {name for name, _, _ in list_virtual_packages("osx-arm64", "2.28")} == {"__unix", "__osx", "__archspec"}
    assert {name for name, _, _ in list_virtual_packages("win-64", "2.28")} == {"__win", "__archspec"}


async def test_package_names(solver: Solver, channel: Path) -> None:
    assert await solver.package_names([channel.as_uri()], ["noarch"]) == ["app", "pip"]
    assert "lib" in await solver.package_names([channel.as_uri()], ["linux-64", "noarch"])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:1/gone", "no connection to 127.0.0.1:1"),
        ("file:///nowhere/at/all", "/nowhere/at/all/noarch/repodata.json: No such file"),
        ("ftp://example.org/c", "scheme"),
        (f"https://u:{SECRET}@example.org/c", "credentials file"),
        (f"https://example.org/t/{SECRET}/c", "credentials file"),
        # rattler asks the port of https, whatever the address says
        ("oci://127.0.0.1:1/gone", "internal address"),
    ],
)
async def test_unavailable_channels(solver: Solver, address: str, reason: str) -> None:
    with pytest.raises(ChannelUnavailable, match=reason) as caught:
        await solver.solve(spec("lib", channel=address))
    assert caught.value.transient
    assert SECRET not in str(caught.value)


async def test_a_channel_that_is_not_there(solver: Solver, server: ChannelServer) -> None:
    with pytest.raises(ChannelUnavailable, match=r"noarch/repodata.json is not there"):
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
    with pytest.raises(CredentialsInvalid):
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


async def test_a_long_solver_that_ends_is_ended_wholly(
    settings: SolverSettings, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when somebody comes at that moment, and leaves."""
    monkeypatch.setattr(solving, "IDLE_SECONDS", 0.1)
    wish = spec("lib", channel=channel.as_uri())
    async with solving.Solving(settings, solving.SolvingSettings()) as solver:
        await solver._solve_long(wish, {})
        long = solver._long_solver
        assert long
        async with asyncio.timeout(10):
            while solver._long_solver:
                await asyncio.sleep(0)
        another = asyncio.create_task(solver._solve_long(wish, {}))
        await asyncio.sleep(0)
        another.cancel()
        await asyncio.gather(another, return_exceptions=True)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", urlsplit(long._proxy.url).port)


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


def test_dependency_order_does_not_depend_on_the_order_given() -> None:
    def package(name: str, *depends: str) -> LockedPackage:
        return LockedPackage(name, "1", "0", 0, "noarch", "c", "u", "f", 1, "0" * 64, None, depends)

    packages = [
        package("a", "z >=1", "missing"),
        package("z", "m[build=x]"),
        package("m"),
        package("python", "pip", "m"),
        package("pip", "python >=3"),
        package("x", "c::pip", "y"),
        package("y", "x"),
        package("self", "self"),
    ]
    expected = ["m", "self", "z", "a", "python", "pip", "x", "y"]
    for seed in range(20):
        random.Random(seed).shuffle(packages)
        assert [each.name for each in order_by_dependency(packages)] == expected


@pytest.mark.skipif(not REAL.is_dir(), reason="needs real repodata: set CONDERY_TEST_DATA to a folder that holds it")
async def test_real_repodata(settings: SolverSettings) -> None:
    names = ["python", "numpy", "scipy", "pandas", "jupyterlab"]
    async with ChannelServer(REAL) as server, Solver(settings) as solver:
        wish = replace(spec(*names, channel=server.url), platforms=("linux-64", "linux-aarch64"))
        lock = await solver.solve(wish)
        assert {platform: len(packages) for platform, packages in lock.packages.items()} == {
            "linux-64": 149,
            "linux-aarch64": 149,
        }
        order = [package.name for package in lock.packages["linux-64"]]
        assert order.index("python") < order.index("numpy") < order.index("scipy")
        assert {item.key for item in await asyncio.gather(*(solver.solve(wish) for _ in range(4)))} == {lock.key}
        with pytest.raises(UnknownPackage, match="did you mean numpy"):
            await solver.solve(spec("nunpy", channel=server.url))
        conflict: list[str | PackageItem] = [item("numpy", ("<", "2")), "python", item("python", (">=", "3.13"))]
        with pytest.raises(Unsatisfiable) as caught:
            await solver.solve(spec(*conflict, channel=server.url))
        assert len(caught.value.reason.splitlines()) < 20
