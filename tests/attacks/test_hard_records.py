"""Records whose dependencies end rattler's solver, or keep it busy: they cost the questions of their channel alone."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import zstandard
from rattler.index import index_fs

from builder.channels.policy import ChannelPolicy
from builder.errors import BuilderError, ChannelRefused, PackageRefused, SolveLimit, Unsatisfiable
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.solve.indexes.records import LONGEST_SPEC, MOST_EXPRESSIONS, MOST_PARENTHESES, MOST_SPECS
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from tests.support.builder.packages import Package
from tests.support.builder.solving import lib, stems
from tests.support.servers.channel_server import ChannelServer

DEEP = 50_000
ALTERNATIVES = "|".join(f">{number}" for number in range(60_000))


def nested(depth: int, inside: str = "1") -> str:
    return "(" * depth + inside + ")" * depth


HARD: dict[str, dict[str, Any]] = {
    "depends": {"depends": [f"x {nested(DEEP)}"]},
    "just enough for a crash": {"depends": [f"x {nested(4000)}"]},
    "unclosed": {"depends": ["x " + "(" * DEEP]},
    "as alternatives": {"depends": ["x " + "(>1|" * DEEP + "1" + ")" * DEEP]},
    "in brackets": {"depends": [f"x[version='{nested(DEEP)}']"]},
    "constrains": {"constrains": [f"x {nested(DEEP)}"]},
    "extra depends": {"depends": ["x"], "extra_depends": {"more": [f"x {nested(DEEP)}"]}},
    "a condition": {"depends": [f'x[when="{nested(DEEP, "python")}"]']},
    "alternatives": {"depends": [f"x {ALTERNATIVES}"]},
    "bounds": {"depends": ["x " + ALTERNATIVES.replace("|", ",")]},
    "stars": {"depends": ["x * " + "*a" * 20_000]},
    "a regular expression": {"depends": [f"x * ^{nested(DEEP)}$"]},
    "regular expressions": {"depends": [rf"x[build='^\w{{150}}{number}$']" for number in range(100)]},
    "regular expressions in a small record": {"depends": [rf"x * ^\w{{150}}{number}$" for number in range(20)]},
    "very many": {"depends": [f"x{number}" for number in range(10_000)]},
    "very many constraints": {"constrains": [f"x{number} >1" for number in range(10_000)]},
    "very many bounds of itself": {"depends": [f"lib >={number}" for number in range(10_000)]},
}
"""Fields of the record of `lib`."""


def write(channel: Path, records: dict[str, dict[str, Any]]) -> None:
    """A channel with these records, by `name-version`; what is not told of them is sound."""
    documents = {}
    for stem, fields in records.items():
        name, _, version = stem.rpartition("-")
        record = Package(name, version).index() | {"sha256": "0" * 64, "md5": "0" * 32, "size": 1} | fields
        documents[f"{stem}-0.conda"] = record
    for subdir, packages in (("linux-64", documents), ("noarch", {})):
        (channel / subdir).mkdir(parents=True, exist_ok=True)
        index = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": packages, "repodata_version": 1}
        (channel / subdir / "repodata.json").write_text(json.dumps(index))


@pytest.fixture
async def bad(tmp_path: Path) -> AsyncIterator[ChannelServer]:
    async with ChannelServer(tmp_path / "bad") as server:
        yield server


@pytest.fixture
async def good(tmp_path: Path) -> AsyncIterator[ChannelServer]:
    write(tmp_path / "good", {"lib-1.0": {}})
    async with ChannelServer(tmp_path / "good") as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path) -> SolverSettings:
    return SolverSettings(tmp_path / "repodata", ChannelPolicy(others="all"), seconds=60, refresh=0)


@pytest.fixture
async def solver(settings: SolverSettings) -> AsyncIterator[Solver]:
    async with Solver(settings) as running:
        yield running


@pytest.mark.parametrize("case", HARD)
async def test_a_record_is_refused_before_it_is_solved_with(
    case: str, tmp_path: Path, solver: Solver, bad: ChannelServer, good: ChannelServer
) -> None:
    write(tmp_path / "bad", {"lib-1.0": HARD[case], "sound-1.0": {}})
    process = solver.pid
    for _ in range(2):
        with pytest.raises(PackageRefused, match=r"lib-1.0-0.conda is refused: its record .* allowed") as caught:
            await solver.solve(lib(bad.url))
        assert bad.url in str(caught.value)
        assert len(str(caught.value)) < 400
    with pytest.raises(PackageRefused, match="lib"):
        await solver.solve(lib(good.url, bad.url))
    assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]
    assert stems(await solver.solve(EnvironmentSpec((PackageItem("sound"),), (bad.url,)))) == ["sound-1.0-0"]
    assert solver.pid == process


async def test_a_record_that_another_channels_package_needs(
    tmp_path: Path, solver: Solver, bad: ChannelServer, good: ChannelServer
) -> None:
    write(tmp_path / "good", {"lib-1.0": {"depends": ["deep"]}})
    write(tmp_path / "bad", {"deep-1.0": HARD["depends"]})
    process = solver.pid
    with pytest.raises(PackageRefused, match=r"deep-1\.0-0\.conda") as caught:
        await solver.solve(lib(good.url, bad.url))
    assert bad.url in str(caught.value)
    assert solver.pid == process


@pytest.mark.parametrize(
    "spec",
    [
        "deep >=1 # a::b",
        "deep[license='a::b']",
        "namespace:deep",
        "elsewhere::deep",
        "https://example.com/linux-64/deep-1.0-0.conda",
        "more[extras=[deep]]",
    ],
)
async def test_a_record_whose_name_is_hidden_in_a_dependency(
    spec: str, tmp_path: Path, solver: Solver, bad: ChannelServer
) -> None:
    """rattler fetches it by that name and may parse it, even if it then chooses nothing of that name."""
    write(
        tmp_path / "bad",
        {
            "lib-1.0": {"depends": [spec]},
            "more-1.0": {"extra_depends": {"deep": ["deep"]}},
            "deep-1.0": HARD["depends"] | {"license": "a::b"},
        },
    )
    process = solver.pid
    with pytest.raises(PackageRefused, match=r"deep-1\.0-0\.conda"):
        await solver.solve(lib(bad.url))
    assert solver.pid == process


@pytest.mark.parametrize("case", ["in brackets", "regular expressions"])
async def test_a_record_is_refused_before_all_records_are_read(
    case: str, tmp_path: Path, solver: Solver, bad: ChannelServer
) -> None:
    """For a solve in the second lane, which comes there if the first one had no time to look at its records."""
    write(tmp_path / "bad", {"lib-1.0": HARD[case]})
    process = solver.pid
    with pytest.raises(PackageRefused, match=r"lib-1\.0-0\.conda"):
        await solver.load(lib(bad.url), 60, records=True)
    assert solver.pid == process


async def test_a_dependency_that_rattler_cannot_read(tmp_path: Path, solver: Solver, bad: ChannelServer) -> None:
    """It names nothing that would have to be checked, and the solver says what is wrong with it."""
    write(tmp_path / "bad", {"lib-1.0": {"depends": ["a:b:c:d"]}})
    process = solver.pid
    with pytest.raises(BuilderError, match="a:b:c:d"):
        await solver.solve(lib(bad.url))
    assert solver.pid == process


async def test_a_record_in_a_shard(tmp_path: Path, solver: Solver, bad: ChannelServer) -> None:
    """The shard is written by hand: the indexer parses what it indexes."""
    (tmp_path / "bad/noarch").mkdir(parents=True)
    Package("lib", depends=("placeholder",)).conda(tmp_path / "bad")
    await index_fs(tmp_path / "bad", force=True, write_shards=True)
    [shard] = (tmp_path / "bad/linux-64/shards").iterdir()
    old = zstandard.decompress(shard.read_bytes(), max_output_size=1 << 20)
    spec = f"x {nested(DEEP)}".encode()
    new = old.replace(b"\xabplaceholder", b"\xdb" + len(spec).to_bytes(4, "big") + spec)
    assert len(new) > 2 * DEEP
    content = zstandard.compress(new)
    digest = hashlib.sha256(content)
    shard.with_name(f"{digest.hexdigest()}.msgpack.zst").write_bytes(content)
    index_path = tmp_path / "bad/linux-64/repodata_shards.msgpack.zst"
    index = zstandard.decompress(index_path.read_bytes(), max_output_size=1 << 20)
    index_path.write_bytes(zstandard.compress(index.replace(bytes.fromhex(shard.name.split(".")[0]), digest.digest())))
    process = solver.pid
    with pytest.raises(PackageRefused, match=r"lib-1.0-0.conda .* allowed"):
        await solver.solve(lib(bad.url))
    assert any("/shards/" in request.path for request in bad.requests)
    assert solver.pid == process


async def test_what_real_records_have_is_taken(tmp_path: Path, solver: Solver, bad: ChannelServer) -> None:
    """And more: all that the bounds allow."""
    depends = [
        f"__unix {nested(MOST_PARENTHESES, '>=0')}",
        "__unix " + "|".join([">=0"] * (LONGEST_SPEC // 4 - 10)),
        *(["__unix * ^.*$"] * MOST_EXPRESSIONS),
        *(["__unix"] * (MOST_SPECS - MOST_EXPRESSIONS - 3)),
    ]
    write(tmp_path / "bad", {"lib-1.0": {"depends": depends, "constrains": ["y (>1,<2)|(>3,<4)"]}})
    assert stems(await solver.solve(lib(bad.url))) == ["lib-1.0-0"]


async def test_a_channel_of_the_server_is_looked_at_once_it_ended_a_process(
    tmp_path: Path, settings: SolverSettings, bad: ChannelServer, good: ChannelServer
) -> None:
    write(tmp_path / "bad", {"lib-1.0": HARD["depends"]})
    policy = ChannelPolicy((bad.url, good.url))
    async with Solver(replace(settings, policy=policy)) as solver:
        with pytest.raises(PackageRefused, match=r"lib-1\.0-0\.conda"):
            await solver.solve(lib(bad.url))
        assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]
        process = solver.pid
        with pytest.raises(PackageRefused, match=r"lib-1\.0-0\.conda"):
            await solver.solve(lib(bad.url))
        assert solver.pid == process


def chain(length: int) -> dict[str, dict[str, Any]]:
    """Packages that need each other in a row, the last one that is not there: the reason has a text of its square."""
    return {f"lib{number or ''}-1.0": {"depends": [f"lib{number + 1}"]} for number in range(length)}


async def test_a_channel_whose_solves_take_all_memory_disturbs_others_once(
    tmp_path: Path, settings: SolverSettings, bad: ChannelServer, good: ChannelServer
) -> None:
    write(tmp_path / "bad", chain(3000))
    async with Solver(replace(settings, memory=200 << 20)) as solver:
        with pytest.raises(SolveLimit, match="solve_memory"):
            await solver.solve(lib(bad.url))
        assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]
        process = solver.pid
        with pytest.raises(SolveLimit, match="solve_memory"):
            await solver.solve(EnvironmentSpec((PackageItem("lib7"),), (good.url, bad.url)))
        assert solver.pid == process


async def test_what_was_overdue_in_a_process_that_crashed_is_set_apart(
    tmp_path: Path, solver: Solver, bad: ChannelServer, good: ChannelServer
) -> None:
    """A solve goes on past its time, where rattler does not stop it."""
    write(tmp_path / "bad", {"lib-1.0": {}, "other-1.0": {}})
    bad.fail("repodata.json", cut_after=10, stall=True, times=99)
    with pytest.raises(SolveLimit, match="time"):
        await solver.solve(lib(bad.url), seconds=0.5)
    bad.faults.clear()
    assert solver.pid
    os.kill(solver.pid, signal.SIGSEGV)
    assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]
    assert solver.pid
    os.kill(solver.pid, signal.SIGSTOP)
    other = EnvironmentSpec((PackageItem("other"),), (bad.url,))
    assert stems(await solver.solve(other, seconds=30)) == ["other-1.0-0"]
    os.kill(solver.pid, signal.SIGKILL)


async def test_what_was_in_a_process_that_fell_silent_is_repeated_alone(
    settings: SolverSettings, bad: ChannelServer, good: ChannelServer
) -> None:
    """Any of them may keep its event loop busy: a second shared process would fall silent as well."""
    async with Solver(replace(settings, seconds=1)) as solver:
        silent = solver.pid
        assert silent
        os.kill(silent, signal.SIGSTOP)
        innocent = asyncio.create_task(solver.solve(lib(good.url), seconds=60))
        with pytest.raises(SolveLimit, match="time"):
            await solver.solve(lib(bad.url))
        await solver._find_living()
        with silencing(solver):
            assert stems(await innocent) == ["lib-1.0-0"]
        # it is to blame for nothing
        assert not solver._suspects.are_apart(lib(good.url))


async def test_what_was_overdue_in_a_process_that_fell_silent_is_set_apart(
    tmp_path: Path, settings: SolverSettings, bad: ChannelServer, good: ChannelServer
) -> None:
    write(tmp_path / "bad", {"lib-1.0": {}, "other-1.0": {}})
    async with Solver(settings) as solver:
        assert solver.pid
        os.kill(solver.pid, signal.SIGSTOP)
        with pytest.raises(SolveLimit, match="time"):
            await solver.solve(lib(bad.url), seconds=0.1)
        assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]
        with silencing(solver):
            other = EnvironmentSpec((PackageItem("other"),), (bad.url,))
            assert stems(await solver.solve(other, seconds=30)) == ["other-1.0-0"]


async def test_what_makes_a_process_of_its_own_silent_is_set_apart(
    tmp_path: Path, solver: Solver, bad: ChannelServer, good: ChannelServer
) -> None:
    write(tmp_path / "bad", {"lib-1.0": {}, "other-1.0": {}})
    shared = solver.pid
    solver._suspects.set_apart(lib(bad.url), channels=False)
    with stopping_others(shared), pytest.raises(SolveLimit, match="time"):
        await solver.solve(lib(bad.url), seconds=0.1)
    assert solver._suspects.are_apart(EnvironmentSpec((PackageItem("other"),), (bad.url,)))
    assert solver.pid == shared
    assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]


@contextlib.contextmanager
def silencing(solver: Solver) -> Iterator[None]:
    """Whoever asks the process that all share gets no answer meanwhile."""
    stopped = solver.pid
    assert stopped
    os.kill(stopped, signal.SIGSTOP)
    try:
        yield
        assert solver.pid == stopped
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(stopped, signal.SIGCONT)


@contextlib.contextmanager
def stopping_others(shared: int | None) -> Iterator[None]:
    """While it lasts, every other solver is stopped as it begins."""

    async def stop() -> None:
        while True:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if child.pid != shared and "builder.solve.process" in child.cmdline():
                        child.suspend()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(stop())
    try:
        yield
    finally:
        task.cancel()


@contextlib.contextmanager
def crashing() -> Iterator[None]:
    """While it lasts, solvers end by a fault as they begin; nothing that is known of rattler does that any more."""

    async def crash() -> None:
        while True:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if "builder.solve.process" in child.cmdline():
                        child.send_signal(signal.SIGSEGV)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(crash())
    try:
        yield
    finally:
        task.cancel()


async def test_a_channel_at_which_a_solver_of_its_own_crashes_is_refused(
    tmp_path: Path, solver: Solver, bad: ChannelServer, good: ChannelServer
) -> None:
    write(tmp_path / "bad", {"lib-1.0": {}})
    with crashing(), pytest.raises(ChannelRefused, match="the solver crashes"):
        await solver.solve(lib(bad.url))
    with pytest.raises(ChannelRefused, match="the solver crashes"):
        await solver.solve(EnvironmentSpec((PackageItem("other"),), (good.url, bad.url)))
    assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]


async def test_two_channels_at_which_a_solver_crashes_are_set_apart(
    tmp_path: Path, solver: Solver, bad: ChannelServer, good: ChannelServer
) -> None:
    """One of them may be in it for nothing."""
    write(tmp_path / "bad", {"lib-1.0": {}})
    with crashing(), pytest.raises(BuilderError, match="died"):
        await solver.solve(lib(bad.url, good.url))
    assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]
    assert stems(await solver.solve(lib(bad.url))) == ["lib-1.0-0"]


async def test_the_reason_of_a_long_chain_is_short(tmp_path: Path, solver: Solver, bad: ChannelServer) -> None:
    write(tmp_path / "bad", chain(1000))
    with pytest.raises(Unsatisfiable, match="more lines") as caught:
        await solver.solve(lib(bad.url))
    assert len(str(caught.value)) < 100_000


async def test_a_reason_with_a_long_name_stalls_nobody(tmp_path: Path, solver: Solver, bad: ChannelServer) -> None:
    """The reason is read where all requests are answered."""
    name = "x" + "_" * 3000
    write(
        tmp_path / "bad",
        {
            "lib-1.0": {"depends": [name, "y >=2"]},
            f"{name}-1.0": {"depends": ["y <2"]},
            "y-1.0": {},
            "y-2.0": {},
        },
    )
    with pytest.raises(Unsatisfiable, match="x____"):
        await solver.solve(lib(bad.url), seconds=30)
