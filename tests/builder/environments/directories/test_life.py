"""Builds that become current, and are removed when nothing can be using them any more."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from builder.environments.directories.directories import Directories
from builder.environments.directories.processes import find_used
from builder.environments.directories.settings import DirectorySettings
from builder.locks.lock import Lock
from builder.work.pool import WorkerPool
from storage.errors import StorageUnavailable
from storage.layout import DataDirectory
from tests.support.builder.directories import PLATFORM, fetch_local, lock_of, open_directories
from tests.support.builder.packages import PLACEHOLDER, Entry, File, Package
from tests.support.builder.services import make_channel, open_service, spec_of
from tests.support.servers.slow import SlowServer

DAY = 24 * 3600


def write_tool(tmp_path: Path, version: str = "1") -> Lock:
    files: dict[str, Entry] = {
        "share/version": version.encode(),
        "bin/tool": File(f"#!{PLACEHOLDER}\n".encode(), 0o775, "text"),
    }
    return lock_of([Package("tool", version, files=files).conda(tmp_path / "channel")])


def leave(directory: Path, seconds: float) -> None:
    """Let it have been current so many seconds ago."""
    then = directory.stat().st_mtime - seconds
    os.utime(directory, (then, then))


async def test_the_link_leads_to_the_build_that_was_published(tmp_path: Path) -> None:
    link = tmp_path / "envs/team/envs/tool"
    async with open_directories(tmp_path) as directories:
        assert await directories.find_current("team", "tool") is None
        for version in ("1", "2"):
            prefix = await directories.make("team", "tool", version, write_tool(tmp_path, version), PLATFORM)
            assert await directories.publish("team", "tool", version) == link
            assert (link / "share/version").read_text() == version
            assert link.resolve() == prefix
        # back to an earlier build
        await directories.publish("team", "tool", "1")
        assert await directories.find_current("team", "tool") == "1"
        assert os.readlink(link) == "../tool-1"
        await directories.withdraw("team", "tool")
        assert not os.path.lexists(link)


async def test_with_the_workers_and_the_downloads_of_builds(tmp_path: Path) -> None:
    """As a server opens it."""
    await make_channel(tmp_path / "site/channel", [Package("tool", files={"share/x": b"x"})])
    async with (
        SlowServer(tmp_path / "site") as server,
        open_service(tmp_path / "data", f"{server.url}/channel") as service,
    ):
        builder = service.builder
        settings = DirectorySettings(environments_directory=tmp_path / "envs")
        lock = await service.lock(spec_of(service, "tool"))
        async with Directories.open(settings, builder.data, builder.pool, builder.fetch_archives) as directories:
            assert directories is not None
            prefix = await directories.make("team", "tool", "1", lock, PLATFORM)
        assert (prefix / "share/x").read_bytes() == b"x"


async def test_a_build_that_is_not_there_is_not_published(tmp_path: Path) -> None:
    async with open_directories(tmp_path) as directories:
        await directories.make("team", "tool", "1", write_tool(tmp_path), PLATFORM)
        await directories.publish("team", "tool", "1")
        with pytest.raises(StorageUnavailable, match="it is not there; build the environment again"):
            await directories.publish("team", "tool", "2")
        assert await directories.find_current("team", "tool") == "1"


async def test_names_that_mean_something_to_a_file_system(tmp_path: Path) -> None:
    async with open_directories(tmp_path) as directories:
        for namespace, name in ((".", ".."), ("..", "."), ("$HOME", "-rf"), ("envs", "envs")):
            prefix = await directories.make(namespace, name, "1", write_tool(tmp_path), PLATFORM)
            link = await directories.publish(namespace, name, "1")
            assert link.resolve() == prefix
            assert prefix.parents[1] == tmp_path / "envs"
    assert sorted(each.name for each in (tmp_path / "envs").iterdir()) == ["=24HOME", "=2E", "=2E.", "envs"]


async def test_who_reads_the_link_gets_the_old_build_or_the_new_one(tmp_path: Path) -> None:
    async with open_directories(tmp_path) as directories:
        for version in ("1", "2"):
            await directories.make("team", "tool", version, write_tool(tmp_path, version), PLATFORM)
        await directories.publish("team", "tool", "1")
        with reading(tmp_path / "envs/team/envs/tool/share/version") as seen:
            for _ in range(200):
                await directories.publish("team", "tool", "2")
                await directories.publish("team", "tool", "1")
    assert set(seen) == {"1", "2"}


@contextmanager
def reading(path: Path) -> Iterator[list[str]]:
    """Read the file again and again in a thread. What is raised there ends up in the list."""
    seen: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(path.read_text())
            except OSError as error:
                seen.append(repr(error))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


async def test_old_builds_go_and_the_current_one_stays(tmp_path: Path) -> None:
    async with open_directories(tmp_path, environments_grace=DAY) as directories:
        prefixes = [
            await directories.make("team", "tool", str(build), write_tool(tmp_path), PLATFORM) for build in range(5)
        ]
        await directories.make("team", "tool-0", "1", write_tool(tmp_path), PLATFORM)
        for build in (0, 1, 4):
            await directories.publish("team", "tool", str(build))
        for prefix in prefixes[:2]:
            leave(prefix, 2 * DAY)
        leave(prefixes[4], 2 * DAY)
        retired = await directories.retire("team", "tool", keep=["3"])
        assert set(retired.removed) == {"0", "1"}
        assert set(retired.kept) == {"2", "4"}
        assert retired.kept["4"] == "it is current"
        assert "environments_grace" in retired.kept["2"]
        assert await directories.list_builds("team", "tool") == ["2", "3", "4"]
        assert await directories.list_builds("team", "tool-0") == ["1"]
    assert list((tmp_path / "envs").rglob(".part-*")) == []


async def test_the_grace_time_begins_when_another_build_becomes_current(tmp_path: Path) -> None:
    async with open_directories(tmp_path, environments_grace=DAY) as directories:
        for build in ("1", "2"):
            leave(await directories.make("team", "tool", build, write_tool(tmp_path), PLATFORM), 9 * DAY)
        await directories.publish("team", "tool", "1")
        await directories.publish("team", "tool", "2")
        assert (await directories.retire("team", "tool", keep=[])).removed == ()
        leave(directories.locate("team", "tool", "1"), 2 * DAY)
        assert (await directories.retire("team", "tool", keep=[])).removed == ("1",)


async def test_a_clock_that_was_ahead_ends_no_grace_time(tmp_path: Path) -> None:
    async with open_directories(tmp_path, environments_grace=DAY) as directories:
        prefix = await directories.make("team", "tool", "1", write_tool(tmp_path), PLATFORM)
        leave(prefix, -99 * DAY)
        assert (await directories.retire("team", "tool", keep=[])).removed == ()
        leave(prefix, 2 * DAY)
        assert (await directories.retire("team", "tool", keep=[])).removed == ("1",)


async def test_without_a_directory_nothing_is_opened(tmp_path: Path) -> None:
    async with (
        WorkerPool(1) as pool,
        Directories.open(DirectorySettings(), DataDirectory(tmp_path), pool, fetch_local) as opened,
    ):
        assert opened is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/", "relative", "/srv/with space", "/srv/../etc", "/srv/a:b", "/proc/environments"])
def test_directories_that_are_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        DirectorySettings(environments_directory=Path(path))


async def test_of_a_deleted_environment_nothing_stays(tmp_path: Path) -> None:
    async with open_directories(tmp_path, environments_grace=0) as directories:
        await directories.make("team", "tool", "1", write_tool(tmp_path), PLATFORM)
        await directories.publish("team", "tool", "1")
        await directories.withdraw("team", "tool")
        assert (await directories.retire("team", "tool", keep=[])).removed == ("1",)
    assert [path.name for path in (tmp_path / "envs/team").rglob("*")] == ["envs"]


@pytest.mark.parametrize("how", ["cwd", "exe", "maps"])
async def test_a_directory_from_which_a_process_runs_stays(tmp_path: Path, how: str) -> None:
    async with open_directories(tmp_path, environments_grace=0) as directories:
        for build in ("1", "2"):
            await directories.make("team", "tool", build, write_tool(tmp_path), PLATFORM)
            await directories.publish("team", "tool", build)
        old = directories.locate("team", "tool", "1")
        program, code = sys.executable, "import sys; print(flush=True); sys.stdin.read()"
        if how == "exe":
            program = str(old / "bin/sleeper")
            Path(program).write_bytes(Path("/bin/cat").read_bytes())
            os.chmod(program, 0o755)
        elif how == "maps":
            (old / "share/mapped").write_bytes(b"x" * 4096)
            code = f"import mmap; f = open({str(old / 'share/mapped')!r}, 'r+b'); m = mmap.mmap(f.fileno(), 0); {code}"
        arguments = [program] if how == "exe" else [program, "-c", code]
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=old if how == "cwd" else "/"
        )
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(b"\n")
            process.stdin.flush()
            await asyncio.to_thread(process.stdout.readline)
            retired = await directories.retire("team", "tool", keep=[])
            assert retired.removed == ()
            assert retired.kept["1"] == f"process {process.pid} runs from it"
            assert (old / "share/version").read_text() == "1"
        finally:
            process.communicate()
        assert (await directories.retire("team", "tool", keep=[])).removed == ("1",)


def test_a_directory_is_not_used_by_who_uses_one_whose_name_begins_alike(tmp_path: Path) -> None:
    for name in ("tool-1", "tool-11"):
        (tmp_path / name).mkdir()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd=tmp_path / "tool-11")
    try:
        assert find_used([tmp_path / "tool-1"]) == {}
        assert find_used([tmp_path / "tool-11"]) == {tmp_path / "tool-11": process.pid}
    finally:
        process.communicate(b"\n")


async def test_two_servers_publish_and_retire_at_once(tmp_path: Path) -> None:
    """Whatever the order, the current build is there."""
    async with open_directories(tmp_path, environments_grace=0) as one:
        async with open_directories(tmp_path, environments_grace=0) as other:
            for round_ in range(6):
                builds = [f"{round_}{letter}" for letter in "ab"]
                lock = write_tool(tmp_path)
                await asyncio.gather(
                    one.make("team", "tool", builds[0], lock, PLATFORM),
                    other.make("team", "tool", builds[0], lock, PLATFORM),
                    one.make("team", "tool", builds[1], lock, PLATFORM),
                )
                await asyncio.gather(
                    one.publish("team", "tool", builds[0]),
                    other.publish("team", "tool", builds[1]),
                    one.retire("team", "tool", keep=builds),
                    other.retire("team", "tool", keep=builds),
                )
                current = await one.find_current("team", "tool")
                assert current in builds
                assert (tmp_path / "envs/team/envs/tool/share/version").read_text() == "1"
