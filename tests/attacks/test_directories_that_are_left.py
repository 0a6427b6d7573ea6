"""The same packages as for images, installed on the disk of the server itself.

Either the package is refused and there is no directory, or the directory holds nothing but what was in it. Outside of
it no file is written, and none is read.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from builder.environments.directories.directories import Directories
from builder.errors import DirectoryUnsuitable, PackageRefused, PathConflict
from builder.locks.lock import Lock
from tests.attacks.hostile import Hostile
from tests.attacks.leaving import ATTACKS, CANNOT, PYTHONS, SECRET, VICTIM, Attack, conda, listed
from tests.support.builder.directories import PLATFORM, lock_of, open_directories
from tests.support.builder.installed import installed
from tests.support.builder.packages import PLACEHOLDER, Directory, File, Link, Made, Package

pytestmark = pytest.mark.asyncio(loop_scope="module")
"""All tests use the same worker processes."""

MORE = {
    "the mark of a frozen environment": Attack(
        conda("frozen", [("conda-meta/frozen", b"")], ["conda-meta/frozen"]), "belongs to the environment itself"
    ),
    "a link for that mark": Attack(
        conda("frozenb", [("conda-meta/frozen", Link(str(VICTIM)))], [listed("conda-meta/frozen", "softlink")]),
        "belongs to the environment itself",
    ),
    "a directory for that mark": Attack(
        conda("frozenc", [("conda-meta/frozen/x", b"")], ["conda-meta/frozen/x"]), "belongs to the environment itself"
    ),
    "times that no file can have": Attack(
        conda(
            "late",
            [("share/x", File(PLACEHOLDER.encode(), mtime=1 << 62)), ("share/y", File(b"y", mtime=-(1 << 40)))],
            [listed("share/x", prefix_placeholder=PLACEHOLDER, file_mode="text"), "share/y"],
        ),
        None,
    ),
    "a time of the package that is none": Attack(
        Hostile(Package("never", timestamp=1 << 62), [("share/y", b"y")], ["share/y"]), "is not a time"
    ),
    "files of the cache": Attack(
        conda("cache", [("0", b"x"), ("contents.json", b"{}"), ("files.json", b"{}")], ["0", "contents.json"]), None
    ),
    "a path with names as long as none may be": Attack(
        conda("long", [("a" * 300, b"x")], ["a" * 300]), "has a name of 300 bytes, and file systems take 255"
    ),
    "a directory below another package's link": Attack(
        conda("below", [("lib/python3.13/site-packages/x", b"x")], ["lib/python3.13/site-packages/x"]),
        "cannot be in one environment",
        ("sitelink",),
    ),
    "a directory that is another package's link": Attack(
        conda(
            "at", [("lib/python3.13/site-packages", Directory())], [listed("lib/python3.13/site-packages", "directory")]
        ),
        "cannot be in one environment",
        ("sitelink",),
    ),
}


SAID = {"noarch files that the record sends out": CANNOT}
"""What is said where no solver has read the record before."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def directories(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Directories]:
    async with open_directories(tmp_path_factory.mktemp("attacked")) as opened:
        yield opened


def made_of(hostile: Hostile, folder: Path) -> Made:
    made = hostile.write(folder)
    return replace(made, record=replace(made.record, **hostile.more))


def lock_with(attack: Attack, folder: Path) -> Lock:
    others = {hostile.package.name: hostile for hostile in PYTHONS if hostile.package.name != "python"}
    others |= {
        f"python =={hostile.package.version}": hostile for hostile in PYTHONS if hostile.package.name == "python"
    }
    return lock_of([made_of(hostile, folder) for hostile in (attack.hostile, *(others[name] for name in attack.asked))])


@pytest.mark.parametrize("name", [*ATTACKS, *MORE])
async def test_refused_or_harmless(directories: Directories, victim: Path, tmp_path: Path, name: str) -> None:
    attack = {**ATTACKS, **MORE}[name]
    lock = lock_with(attack, tmp_path)
    prefix = directories.locate("team", attack.hostile.package.name, "1")
    if attack.said is None:
        assert await directories.make("team", attack.hostile.package.name, "1", lock, PLATFORM) == prefix
        found = [path for path, _ in installed(prefix) if not path.startswith("bin/python")]
        assert len(found) == len(attack.hostile.paths)
        assert all(
            SECRET not in path.read_bytes() for path in prefix.rglob("*") if not path.is_symlink() and path.is_file()
        )
    else:
        with pytest.raises((PackageRefused, PathConflict, DirectoryUnsuitable), match=SAID.get(name, attack.said)):
            await directories.make("team", attack.hostile.package.name, "1", lock, PLATFORM)
        assert not os.path.lexists(prefix)
    assert {path.name: path.read_bytes() for path in victim.iterdir()} == {"secret": SECRET}
    assert list(prefix.parents[1].rglob(".part-*")) == []
    assert not Path("/tmp/pwned").exists()


async def test_packages_do_not_write_each_others_files(directories: Directories, tmp_path: Path) -> None:
    """Two packages of one content for one path: the file is one in the cache of each, and in the environment."""
    made = [Package(name, files={"share/x": name.encode()}).conda(tmp_path) for name in ("one", "two")]
    prefix = await directories.make("team", "overlap", "1", lock_of(made), PLATFORM)
    assert (prefix / "share/x").read_bytes() == b"one"
