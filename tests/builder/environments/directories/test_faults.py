"""What is current stays, and nothing half is left, whatever goes wrong in the middle."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from builder.environments.directories.cache import locate
from builder.errors import DirectoryUnsuitable, DownloadFailed, PackageRefused, PathConflict
from builder.locks.lock import LockedPackage
from builder.work.pool import WorkerPool
from storage.errors import StorageFull, StorageUnavailable
from storage.layout import DataDirectory
from tests.support.builder.directories import PLATFORM, fetch_local, lock_of, open_directories
from tests.support.builder.endless_making import FILES, packages
from tests.support.builder.packages import PLACEHOLDER, Directory, Entry, File, Package
from tests.support.small_disk import small_disk

SMALL = Package("tool", "1", files={"share/version": b"1"})
PREFIXED: dict[str, Entry] = {
    f"share/{number}": File(PLACEHOLDER.encode() * 8000, placeholder="text") for number in range(30)
}
PLAIN: dict[str, Entry] = {f"share/{number}": File(os.urandom(1 << 20)) for number in range(30)}


def list_leftovers(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.rglob(".part-*") if path.name != "channel"]


@pytest.mark.parametrize("content", ["unpacked", "prefixed", "copied"])
async def test_a_full_disk_leaves_the_old_build_current(tmp_path: Path, content: str) -> None:
    """It is full while packages are unpacked, while files get their prefix, or while files are copied to it."""
    files = PREFIXED if content == "prefixed" else PLAIN
    old, new = lock_of([SMALL.conda(tmp_path)]), lock_of([Package("tool", "2", files=files).conda(tmp_path)])
    with small_disk(tmp_path / "disk", 8) as disk:
        data = tmp_path if content == "copied" else disk
        async with open_directories(data, root=disk / "envs") as directories:
            await directories.make("team", "tool", "1", old, PLATFORM)
            await directories.publish("team", "tool", "1")
            for _ in range(2):
                with pytest.raises(StorageFull, match="no space left"):
                    await directories.make("team", "tool", "2", new, PLATFORM)
                assert not directories.locate("team", "tool", "2").exists()
                assert list_leftovers(disk) == []
            with pytest.raises(StorageUnavailable):
                await directories.publish("team", "tool", "2")
            assert (disk / "envs/team/envs/tool/share/version").read_text() == "1"


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
async def test_killed_in_the_middle_and_started_again(tmp_path: Path, seconds: float) -> None:
    command = [sys.executable, "-m", "tests.support.builder.endless_making", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert server.stdout
    await asyncio.to_thread(server.stdout.readline)
    await asyncio.sleep(seconds)
    server.kill()
    server.communicate()
    link = tmp_path / "envs/team/envs/tool"
    current = int(os.readlink(link).rpartition("-")[2])
    for number in range(1, current + 2):
        if (directory := tmp_path / f"envs/team/tool-{number}").exists():
            check(directory, str(number))
    async with open_directories(tmp_path) as directories:
        lock = lock_of([package.conda(tmp_path / "channel") for package in packages(str(current + 1))])
        check(await directories.make("team", "tool", str(current + 1), lock, PLATFORM), str(current + 1))
        await directories.publish("team", "tool", str(current + 1))
    # workers of the killed server may still have written when the first of these was opened
    async with open_directories(tmp_path), asyncio.timeout(60):
        while list_leftovers(tmp_path / "envs") + list_leftovers(tmp_path / "data"):
            await asyncio.sleep(0.05)
    check(link, str(current + 1))


def check(directory: Path, version: str) -> None:
    """Check that a directory is whole."""
    prefix = str(directory.resolve())
    for name in ("left", "right"):
        assert (directory / f"share/{name}").read_text() == version
        sizes = [(directory / f"lib/{name}/{number % 20}/{number}").stat().st_size for number in range(FILES)]
        assert sizes == list(range(FILES))
        assert (directory / f"bin/{name}7").read_text() == f"{prefix}/x {version}\n" * 50
        assert (directory / f"conda-meta/{name}-{version}-0.json").stat().st_size
    assert (directory / "conda-meta/frozen").stat().st_size


async def test_a_worker_that_is_killed_in_the_middle_is_replaced(tmp_path: Path) -> None:
    lock = lock_of([package.conda(tmp_path / "channel") for package in packages("1")])
    async with WorkerPool(2) as pool, open_directories(tmp_path, pool=pool) as directories:
        making = asyncio.create_task(directories.make("team", "tool", "1", lock, PLATFORM))
        killed = 0
        while not making.done():
            await asyncio.sleep(0.03)
            if killed < 2 and list_leftovers(tmp_path):
                for process in list(pool._busy):
                    process.kill()
                    killed += 1
        check(await making, "1")
        assert killed


async def test_given_up_in_the_middle(tmp_path: Path) -> None:
    lock = lock_of([package.conda(tmp_path / "channel") for package in packages("1")])
    async with open_directories(tmp_path) as directories:
        await directories.make("team", "other", "1", lock, PLATFORM)
    async with open_directories(tmp_path) as directories:
        making = asyncio.create_task(directories.make("team", "tool", "1", lock, PLATFORM))
        while not list((tmp_path / "envs/team").glob(".part-*")):
            await asyncio.sleep(0.001)
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not (tmp_path / "envs/team/tool-1").exists()
    assert list_leftovers(tmp_path / "envs") == []


async def test_a_file_that_somebody_wrote_into_is_not_passed_on(tmp_path: Path) -> None:
    lock = lock_of([Package("tool", files={"share/x": b"as packaged", "share/y": b"y"}).conda(tmp_path)])
    async with open_directories(tmp_path) as directories:
        one = await directories.make("team", "one", "1", lock, PLATFORM)
        os.chmod(one / "share/x", 0o644)
        (one / "share/x").write_bytes(b"as somebody likes it")
        two = await directories.make("team", "two", "1", lock, PLATFORM)
        assert (two / "share/x").read_bytes() == b"as packaged"
        assert (one / "share/x").read_bytes() == b"as somebody likes it"


@pytest.mark.parametrize("gone", ["0", "contents.json", "files.json", "everything"])
async def test_a_package_that_is_not_whole_is_unpacked_again(tmp_path: Path, gone: str) -> None:
    lock = lock_of([Package("tool", files={"share/x": b"x"}).conda(tmp_path)])
    [package] = lock.packages[PLATFORM]
    folder = locate(DataDirectory(tmp_path / "data").packages, package)
    async with open_directories(tmp_path) as directories:
        await directories.make("team", "one", "1", lock, PLATFORM)
        for path in sorted(folder.iterdir()):
            if gone in (path.name, "everything"):
                path.unlink()
        two = await directories.make("team", "two", "1", lock, PLATFORM)
        assert (two / "share/x").read_bytes() == b"x"
    assert list_leftovers(tmp_path / "data") == []


async def test_a_listing_that_is_cut_off_is_read_again(tmp_path: Path) -> None:
    lock = lock_of([Package("tool", files={"share/x": b"x"}).conda(tmp_path)])
    folder = locate(DataDirectory(tmp_path / "data").packages, lock.packages[PLATFORM][0])
    async with open_directories(tmp_path) as directories:
        await directories.make("team", "one", "1", lock, PLATFORM)
        for name in ("contents.json", "files.json"):
            (folder / name).write_bytes((folder / name).read_bytes()[:50])
            assert (await directories.make("team", name[:5], "1", lock, PLATFORM)).is_dir()


async def test_a_prefix_that_is_too_long(tmp_path: Path) -> None:
    short = File(b"\x7fELF/opt/short/lib\0", placeholder="binary", prefix="/opt/short")
    lock = lock_of([Package("tool", files={"lib/x.so": short}).conda(tmp_path)])
    async with open_directories(tmp_path) as directories:
        with pytest.raises(PackageRefused) as refused:
            await directories.make("team", "tool", "1", lock, PLATFORM)
        prefix = directories.locate("team", "tool", "1")
    assert f"lib/x.so has room for a prefix of 10 bytes, but {prefix} has {len(str(prefix))}" in str(refused.value)
    assert "a shorter name, or ask the administrator for a shorter environments_directory" in str(refused.value)


async def test_a_first_line_that_is_too_long_for_the_kernel(tmp_path: Path) -> None:
    script = File(f"#!{PLACEHOLDER}/bin/python\nprint(1)\n".encode(), 0o775, "text")
    lock = lock_of([Package("tool", files={"bin/tool": script}).conda(tmp_path)])
    async with open_directories(tmp_path) as directories:
        prefix = await directories.make("team", "a" * 150, "1", lock, PLATFORM)
    assert (prefix / "bin/tool").read_text().startswith(f"#!/bin/sh\n'''exec' \"{prefix}/bin/python\"")


async def test_on_another_file_system_files_are_copied(tmp_path: Path) -> None:
    made = Package("tool", files={"share/x": File(b"x", mtime=1_500_000_000), "bin/y": File(b"y", 0o775)})
    lock = lock_of([made.conda(tmp_path)])
    with small_disk(tmp_path / "disk", 8) as disk:
        async with open_directories(tmp_path, root=disk / "envs") as directories:
            prefix = await directories.make("team", "tool", "1", lock, PLATFORM)
            for path, mode in (("share/x", 0o444), ("bin/y", 0o555)):
                status = (prefix / path).stat()
                assert (status.st_nlink, status.st_mode & 0o777) == (1, mode)
            assert (prefix / "share/x").read_bytes() == b"x"
            assert (prefix / "share/x").stat().st_mtime == 1_500_000_000


async def test_a_file_that_has_too_many_links_is_copied(tmp_path: Path) -> None:
    lock = lock_of([Package("tool", files={"share/x": b"x"}).conda(tmp_path)])
    async with open_directories(tmp_path) as directories:
        one = await directories.make("team", "one", "1", lock, PLATFORM)
        most = os.pathconf(one, "PC_LINK_MAX")
        if not 1 < most <= 70_000:
            pytest.skip(f"a file on this file system may have {most} links")
        (tmp_path / "links").mkdir()
        for number in range(most - (one / "share/x").stat().st_nlink):
            os.link(one / "share/x", tmp_path / "links" / str(number))
        with pytest.raises(OSError, match="Too many links"):
            os.link(one / "share/x", tmp_path / "links/more")
        two = await directories.make("team", "two", "1", lock, PLATFORM)
    assert (two / "share/x").read_bytes() == b"x"
    assert (two / "share/x").stat().st_nlink == 1


async def test_packages_for_another_system(tmp_path: Path) -> None:
    lock = lock_of([SMALL.conda(tmp_path)])
    async with open_directories(tmp_path) as directories:
        with pytest.raises(DirectoryUnsuitable, match="packages for win-64 are not made for this system"):
            await directories.make("team", "tool", "1", lock, "win-64")


async def test_link_scripts_are_refused_by_setting(tmp_path: Path) -> None:
    script = File(b"touch /tmp/condery-ran-this\n", 0o775)
    lock = lock_of([Package("tool", files={"bin/.tool-post-link.sh": script}).conda(tmp_path)])
    async with open_directories(tmp_path, refuse_scripts=True) as directories:
        with pytest.raises(PackageRefused, match="refuse_scripts"):
            await directories.make("team", "tool", "1", lock, PLATFORM)
    assert not Path("/tmp/condery-ran-this").exists()
    assert [path.name for path in (tmp_path / "envs").rglob("*")] == ["team", "envs"]


async def test_a_file_against_a_directory(tmp_path: Path) -> None:
    made = [
        Package("one", files={"share/x": b""}).conda(tmp_path),
        Package("two", files={"share/x": Directory()}).conda(tmp_path),
    ]
    async with open_directories(tmp_path) as directories:
        with pytest.raises(PathConflict, match="share/x is a file in one and a directory in another"):
            await directories.make("team", "tool", "1", lock_of(made), PLATFORM)


async def test_what_is_cached_is_not_fetched(tmp_path: Path) -> None:
    asked: list[str] = []

    async def fetch(wanted: Sequence[LockedPackage]) -> Mapping[str, Path]:
        asked.extend(package.name for package in wanted)
        if "absent" in asked:
            raise DownloadFailed("absent", "it is not there")
        return await fetch_local(wanted)

    made = {name: Package(name, files={"share/" + name: b""}).conda(tmp_path) for name in ("one", "two", "absent")}
    async with open_directories(tmp_path, fetch=fetch) as directories:
        await directories.make("team", "a", "1", lock_of([made["one"]]), PLATFORM)
        made["one"].path.unlink()
        await directories.make("team", "b", "1", lock_of([made["one"], made["two"]]), PLATFORM)
        assert asked == ["one", "two"]
        with pytest.raises(DownloadFailed):
            await directories.make("team", "c", "1", lock_of([made["absent"]]), PLATFORM)


async def test_one_that_exists_is_returned_at_once(tmp_path: Path) -> None:
    lock = lock_of([SMALL.conda(tmp_path)])
    async with open_directories(tmp_path) as directories:
        first, second = await asyncio.gather(*(directories.make("team", "tool", "1", lock, PLATFORM) for _ in range(2)))
        assert first == second
        before = first.stat().st_ino
        assert (await directories.make("team", "tool", "1", lock, PLATFORM)).stat().st_ino == before
