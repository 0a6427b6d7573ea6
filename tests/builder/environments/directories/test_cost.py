"""What environments cost on disk, and what the cache keeps."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from builder.environments.directories.cache import CONTENTS, locate
from builder.environments.directories.eviction import evict, survey
from builder.locks.lock import Lock
from storage.clock import DAY
from storage.layout import DataDirectory
from tests.support.builder.directories import PLATFORM, lock_of, open_directories
from tests.support.builder.packages import PLACEHOLDER, Entry, File, Package
from tests.support.builder.services import open_service, spec_of

MEGABYTE = 1 << 20


def measure(*folders: Path) -> int:
    """The bytes that folders take on disk together, with each file counted once."""
    found: dict[tuple[int, int], int] = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            status = path.lstat()
            found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


async def test_ten_similar_environments_cost_little_more_than_one(sample_channel: Path, tmp_path: Path) -> None:
    async with open_service(tmp_path / "service", sample_channel.as_uri(), glibc="2.36") as service:
        locks = [
            await service.lock(spec_of(service, "python", "numpy", *more))
            for more in ((), ("flask",), ("requests",), ("pyyaml",), ("flask", "requests"))
        ]
    async with open_directories(tmp_path) as directories:
        first = await directories.make("team", "env", "0", locks[0], PLATFORM)
        alone = measure(first)
        paths = [
            await directories.make("team", "env", str(number), locks[number % len(locks)], PLATFORM)
            for number in range(10)
        ]
    together = measure(*paths)
    assert together - alone < 10 * 0.1 * alone
    # the cache shares its files with them: what it holds beside is what holds a prefix, and its listings
    assert measure(tmp_path / "data/packages", *paths) < together + 0.25 * alone


def lock_of_one(name: str, tmp_path: Path) -> Lock:
    files: dict[str, Entry] = {
        "share/plain": File(os.urandom(MEGABYTE)),
        "share/prefixed": File(PLACEHOLDER.encode() + os.urandom(MEGABYTE), placeholder="binary"),
    }
    return lock_of([Package(name, files=files).conda(tmp_path)])


async def test_the_least_recently_used_package_that_no_environment_has_goes_first(tmp_path: Path) -> None:
    packages = DataDirectory(tmp_path / "data").packages
    folders = {}
    async with open_directories(tmp_path, environments_grace=0) as directories:
        for age, name in enumerate(("newest", "middle", "oldest", "used")):
            lock = lock_of_one(name, tmp_path)
            await directories.make("team", name, "1", lock, PLATFORM)
            folders[name] = locate(packages, lock.packages[PLATFORM][0])
            path = folders[name] / CONTENTS
            then = path.stat().st_mtime - (age + 1) * DAY
            os.utime(path, (then, then))
        await directories.publish("team", "used", "1")
        for name in ("newest", "middle", "oldest"):
            await directories.retire("team", name, keep=[])
    by_name = {name: each for name, folder in folders.items() for each in survey(packages) if each.folder == folder}
    # of what an environment has, only the file that holds another prefix there costs anything
    assert MEGABYTE < by_name["used"].size < 1.2 * MEGABYTE
    assert 2 * MEGABYTE < by_name["oldest"].size < 2.2 * MEGABYTE

    def remaining(bound: float) -> list[str]:
        evict(packages, int(bound * MEGABYTE))
        return sorted(name for name, folder in folders.items() if folder.exists())

    assert remaining(0) == ["middle", "newest", "oldest", "used"]
    assert remaining(8) == ["middle", "newest", "oldest", "used"]
    assert remaining(6) == ["middle", "newest", "used"]
    assert remaining(3.5) == ["newest", "used"]
    assert remaining(0.1) == []
    assert list(packages.glob(".part-*")) == []
    assert (tmp_path / "envs/team/envs/used/share/plain").stat().st_size == MEGABYTE


async def test_what_was_just_used_stays(tmp_path: Path) -> None:
    async with open_directories(tmp_path, packages_limit=1) as directories:
        await directories.make("team", "tool", "1", lock_of_one("tool", tmp_path), PLATFORM)
        assert len(survey(tmp_path / "data/packages")) == 1


async def test_a_private_package_is_not_shared_with_who_knows_its_hash(tmp_path: Path) -> None:
    """Of two namespaces with the same archive, one of which has credentials for it, neither uses the other's."""
    lock = lock_of_one("tool", tmp_path)
    [package] = lock.packages[PLATFORM]
    owned = Lock(lock.spec, {PLATFORM: (replace(package, owner="team"),)})
    async with open_directories(tmp_path) as directories:
        await directories.make("team", "tool", "1", owned, PLATFORM)
        await directories.make("other", "tool", "1", lock, PLATFORM)
    assert len(survey(tmp_path / "data/packages")) == 2
