"""Solving: what a lock holds, and why there is none."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import SolveError, UnknownPackage, Unsatisfiable
from builder.locks.lock import Lock
from builder.names.spec import Constraint, EnvironmentSpec, PackageItem
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from builder.solve.virtual_packages import list_virtual_packages
from tests.support.builder.packages import Package
from tests.support.builder.solving import ANY_CHANNEL, DAY, item, make_channel, spec, stems
from tests.support.servers.channel_server import ChannelServer

REAL = Path(os.environ.get("CONDERY_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "repodata/conda-forge"


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


async def test_a_choice_of_versions(solver: Solver, channel: Path) -> None:
    old, none = (Constraint("<", "2"),), (Constraint(">", "100"),)
    wish = spec(PackageItem("lib", alternatives=(old, none)), channel=channel.as_uri())
    assert stems(await solver.solve(wish)) == ["lib-1.0-0"]
    with pytest.raises(Unsatisfiable, match=r"no lib >100\|==99 in .*; available: "):
        await solver.solve(
            spec(PackageItem("lib", alternatives=(none, (Constraint("==", "99"),))), channel=channel.as_uri())
        )


async def test_channels_by_name(settings: SolverSettings, channel: Path) -> None:
    async with Solver(replace(settings, policy=replace(ANY_CHANNEL, alias=channel.parent.as_uri()))) as solver:
        lock = await solver.solve(EnvironmentSpec((item("lib", channel="channel"),), ("channel",)))
    assert [package.channel for package in lock.packages["linux-64"]] == ["channel"]


@pytest.mark.parametrize(
    ("wish", "error", "reason"),
    [
        (item("libb"), UnknownPackage, r"no package libb for linux-64 in .*; did you mean lib\?"),
        (item("lib.1.0"), UnknownPackage, r"did you mean lib.like.1.0\?"),
        (item("lib", (">", "2")), Unsatisfiable, "no lib >2 in .*; available: 1.0, 2.0"),
        (item("lib", ("==", "1.0"), build="*cuda*"), Unsatisfiable, "no build of lib ==1.0 .* 'cuda'; available: 0"),
        (item("python", ("==", "3.12")), Unsatisfiable, r"available: 3.12.1; did you mean python.like.3.12\?$"),
        (item("python", ("==", "3.12"), ("<", "4")), Unsatisfiable, r"did you mean python.lt.4.like.3.12\?$"),
        (item("python", ("==", "3.12"), build="*0*"), Unsatisfiable, r"did you mean python.like.3.12.build.0\?$"),
        (item("python", ("==", "3.12"), build="0"), Unsatisfiable, r'did you mean python =3.12\[build="0"\]\?$'),
        (item("python", ("==", "3.11")), Unsatisfiable, r"no python ==3.11 in .*; available: 3.12.1$"),
        (item("python", ("==", "3.12"), (">", "3.13")), Unsatisfiable, r"available: 3.12.1$"),
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
    assert await solver.list_package_names([channel.as_uri()], ["noarch"]) == ["app", "pip"]
    assert "lib" in await solver.list_package_names([channel.as_uri()], ["linux-64", "noarch"])


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
