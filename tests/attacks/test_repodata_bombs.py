"""A channel whose index is small as it is sent, and larger than a disk or a memory when it is expanded."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import zstandard
from rattler.index import index_fs

from builder.errors import ChannelRefused, SolveLimit
from builder.locks.lock import Lock
from builder.solve.indexes.folder import RepodataFolder
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from builder.work.claims import Caller, Claim, on_behalf_of
from tests.support.builder.packages import Package
from tests.support.builder.solving import ANY_CHANNEL, lib, stems
from tests.support.servers.channel_server import ChannelServer
from tests.support.servers.slow import SlowServer

BLOCK = 1 << 17
BOMB = 20 << 30
SIZE = 32 << 20
"""Bytes that one index may have here."""
MEMORY = 1 << 30
EMPTY = b'{"info":{"subdir":"noarch"},"packages":{},"packages.conda":{}}'


def bomb(head: bytes, unit: bytes, tail: bytes, size: int = BOMB) -> bytes:
    """A zstd frame that expands to `head`, `size` bytes of `unit`, and `tail` (RFC 8878: a raw, many RLE blocks)."""

    def block(kind: int, size: int, *, last: bool = False) -> bytes:
        return (int(last) | kind << 1 | size << 3).to_bytes(3, "little")

    blanks = (block(1, BLOCK) + unit) * (size // BLOCK)
    return b"\x28\xb5\x2f\xfd\x00\x38" + block(0, len(head)) + head + blanks + block(0, len(tail), last=True) + tail


def blanks(channel: Path) -> None:
    """An index of 20 GiB that is valid JSON."""
    (channel / "noarch/repodata.json.zst").write_bytes(bomb(EMPTY[:28], b" ", EMPTY[28:]))


def zeros(channel: Path) -> None:
    (channel / "noarch/repodata.json.zst").write_bytes(bomb(b"", b"\0", b""))


def endless_plain_text(channel: Path) -> None:
    with (channel / "noarch/repodata.json").open("wb") as file:
        file.write(EMPTY[:28])
        for _ in range(2 * SIZE // BLOCK):
            file.write(b" " * BLOCK)
        file.write(EMPTY[28:])


def shards(channel: Path) -> None:
    """An index of shards: a msgpack array of 20 billion nothings."""
    (channel / "noarch/repodata_shards.msgpack.zst").write_bytes(bomb(b"\xdd\xff\xff\xff\xff", b"\xc0", b""))


INDEXES: dict[str, tuple[Callable[[Path], None], str]] = {
    "blanks": (blanks, "repodata_size"),
    "zeros": (zeros, "repodata_size"),
    "plain": (endless_plain_text, "repodata_size"),
    "shards": (shards, "solve_memory"),
}


@pytest.fixture
async def good(tmp_path: Path) -> AsyncIterator[ChannelServer]:
    (tmp_path / "good/noarch").mkdir(parents=True)
    Package("lib").conda(tmp_path / "good")
    await index_fs(tmp_path / "good")
    async with ChannelServer(tmp_path / "good") as server:
        yield server


@pytest.fixture
async def bad(tmp_path: Path) -> AsyncIterator[ChannelServer]:
    for subdir in ("noarch", "linux-64"):
        (tmp_path / "bad" / subdir).mkdir(parents=True)
        (tmp_path / "bad" / subdir / "repodata.json").write_bytes(EMPTY)
    async with ChannelServer(tmp_path / "bad") as server:
        yield server


@pytest.fixture
async def solver(tmp_path: Path) -> AsyncIterator[Solver]:
    settings = SolverSettings(
        tmp_path / "repodata",
        ANY_CHANNEL,
        seconds=60,
        refresh=0,
        repodata_size=SIZE,
        repodata_disk=8 * SIZE,
        memory=MEMORY,
    )
    async with Solver(settings) as running:
        yield running


async def on_behalf(caller: Caller, work: Coroutine[Any, Any, Lock]) -> Lock:
    with on_behalf_of(Claim(caller, lasting=True)):
        return await work


def unfinished(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "repodata").rglob("*") if path.name.startswith(".tmp")]


class Largest:
    """The most resident memory of solver processes, and the most on disk, while a block runs."""

    def __init__(self, folder: Path) -> None:
        self.memory = self.disk = 0
        self._folder = folder

    async def __aenter__(self) -> Largest:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            written = 0
            for child in psutil.Process().children():
                try:
                    self.memory = max(self.memory, child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
                written += RepodataFolder(self._folder, 0).measure_unfinished(child.pid)
            self.disk = max(self.disk, written)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", INDEXES)
async def test_an_index_that_expands_without_end_is_refused(
    name: str, tmp_path: Path, solver: Solver, good: ChannelServer, bad: ChannelServer
) -> None:
    make, setting = INDEXES[name]
    make(tmp_path / "bad")
    await solver.solve(lib(good.url))
    async with Largest(tmp_path / "repodata") as largest:
        refused = asyncio.create_task(solver.solve(lib(bad.url, good.url)))
        while not refused.done():
            assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"], "other solves go on"
            await asyncio.sleep(0.02)
    with pytest.raises(ChannelRefused, match=setting) as caught:
        await refused
    assert caught.value.channel.rstrip("/") == bad.url
    assert str(tmp_path) not in str(caught.value)
    assert largest.memory <= MEMORY
    assert largest.disk <= 2 * SIZE
    assert unfinished(tmp_path) == []
    bad.requests.clear()
    for _ in range(2):
        with pytest.raises(ChannelRefused) as again:
            await solver.solve(lib(bad.url, good.url))
        assert str(again.value) == str(caught.value)
        assert again.value is not caught.value, "an exception that is raised again keeps all frames it went through"
    assert not bad.requests, "what broke a limit is not asked for again"


async def test_all_who_ask_for_it_at_once_are_told(
    tmp_path: Path, solver: Solver, good: ChannelServer, bad: ChannelServer
) -> None:
    shards(tmp_path / "bad")
    both = (solver.solve(lib(bad.url)) for _ in range(2))
    errors = await asyncio.gather(*both, return_exceptions=True)
    assert [type(error) for error in errors] == [ChannelRefused, ChannelRefused]
    assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]


async def test_a_shard_that_expands_without_end(
    tmp_path: Path, solver: Solver, good: ChannelServer, bad: ChannelServer
) -> None:
    """The index is fine; what it has of one package is not."""
    Package("lib", version="9").conda(tmp_path / "bad")
    await index_fs(tmp_path / "bad", force=True)
    [shard] = (tmp_path / "bad/linux-64/shards").iterdir()
    content = bomb(b"", b"\xc0", b"")
    digest = hashlib.sha256(content).digest()
    index_path = tmp_path / "bad/linux-64/repodata_shards.msgpack.zst"
    index = zstandard.decompress(index_path.read_bytes(), max_output_size=1 << 20)
    old = bytes.fromhex(shard.name.split(".")[0])
    assert old in index
    index_path.write_bytes(zstandard.compress(index.replace(old, digest)))
    shard.with_name(f"{digest.hex()}.msgpack.zst").write_bytes(content)
    with pytest.raises(SolveLimit, match="solve_memory") as caught:
        await solver.solve(lib(bad.url))
    assert bad.url in str(caught.value)
    assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]


async def test_indexes_together_are_bounded_on_disk(tmp_path: Path, bad: ChannelServer, good: ChannelServer) -> None:
    """Each channel is just small enough."""
    for number in range(5):
        for subdir in ("noarch", "linux-64"):
            folder = tmp_path / "bad" / f"c{number}" / subdir
            folder.mkdir(parents=True)
            (folder / "repodata.json.zst").write_bytes(bomb(EMPTY[:28], b" ", EMPTY[28:], 3 << 20))
    settings = SolverSettings(tmp_path / "repodata", ANY_CHANNEL, seconds=30, refresh=0, repodata_disk=20 << 20)
    async with Solver(settings) as solver:
        for number in range(5):
            assert await solver.solve(lib(f"{bad.url}/c{number}", good.url))
        files = [path for path in (tmp_path / "repodata").rglob("*") if path.is_file()]
        assert 10 << 20 < sum(path.stat().st_size for path in files) <= 20 << 20


async def test_many_unfinished_indexes_end_the_process_that_writes_them(
    tmp_path: Path, good: ChannelServer, bad: ChannelServer
) -> None:
    blanks(tmp_path / "bad")
    settings = SolverSettings(
        tmp_path / "repodata", ANY_CHANNEL, seconds=30, refresh=0, repodata_disk=64 << 20, repodata_size=1 << 40
    )
    async with Solver(settings) as solver:
        with pytest.raises(ChannelRefused, match="repodata_disk"):
            await solver.solve(lib(bad.url))
        assert stems(await solver.solve(lib(good.url))) == ["lib-1.0-0"]
    assert unfinished(tmp_path) == []


async def test_what_others_write_is_not_counted(tmp_path: Path, good: ChannelServer) -> None:
    """Another server process, or another solver, is in the middle of large indexes."""
    settings = SolverSettings(tmp_path / "repodata", ANY_CHANNEL, seconds=30, refresh=0, repodata_disk=64 << 20)
    (tmp_path / "repodata").mkdir()
    with (tmp_path / "repodata/.tmpother").open("wb") as file:
        file.truncate(1 << 30)
        folder = RepodataFolder(tmp_path / "repodata", 0)
        assert folder.measure_unfinished(os.getpid()) == 1 << 30
        async with Solver(settings) as solver:
            process = solver.pid
            assert process
            assert folder.measure_unfinished(process) == 0
            for number in range(3):
                assert stems(await solver.solve(lib(f"{good.url}{'/' * number}"))) == ["lib-1.0-0"]
                await asyncio.sleep(0.2)
            assert solver.pid == process


async def test_a_bomb_delays_nobody_who_reads_no_index(
    tmp_path: Path, solver: Solver, good: ChannelServer, bad: ChannelServer
) -> None:
    """More requests wait for a channel that hangs than may have a process of their own."""
    shards(tmp_path / "bad")
    await solver.solve(lib(good.url))
    async with SlowServer(tmp_path, slow=["hanging"]) as slow:
        hanging = [asyncio.create_task(solver.solve(lib(f"{slow.url}/hanging-{number}"))) for number in range(6)]
        async with asyncio.timeout(20):
            while slow.stuck < len(hanging):
                await asyncio.sleep(0.02)
        process = solver.pid
        assert process
        # what is stopped solves nothing, and so has the stranger's request when it is lost
        os.kill(process, signal.SIGSTOP)
        stranger = asyncio.create_task(solver.solve(lib(good.url)))
        await asyncio.sleep(0.1)
        os.kill(process, signal.SIGKILL)
        assert stems(await asyncio.wait_for(stranger, 15)) == ["lib-1.0-0"]
        with pytest.raises(ChannelRefused, match="solve_memory"):
            await asyncio.wait_for(on_behalf(Caller("198.51.100.1"), solver.solve(lib(bad.url))), 20)
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


def test_what_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    folder = RepodataFolder(tmp_path, 0)
    (tmp_path / ".tmpdead").write_bytes(b"x" * 10)
    with (tmp_path / ".tmpalive").open("wb") as file:
        file.write(b"y")
        folder.remove_leftovers()
        assert unfinished(tmp_path.parent) == []
        assert [path.name for path in tmp_path.iterdir()] == [".tmpalive"]
    folder.remove_leftovers()
    assert list(tmp_path.iterdir()) == []


def test_the_newest_stay(tmp_path: Path) -> None:
    for number, name in enumerate(["old.json", "old.info.json", "new.json"]):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "old.lock").touch()
    replace(RepodataFolder(tmp_path, 0), most=15).trim()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.json", "old.lock"]
