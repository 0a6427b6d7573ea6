"""The proof of the install rules for directories: one is what `rattler.install` makes, but for the list below.

- `conda-meta` has records, whose content is compared, a history of one revision, and the mark of CEP 22.
- files that are links into the cache are read-only: whoever writes into one would write into all environments.
- rattler leaves a CACHEDIR.TAG for backup programs, and the losers of an overlap aside in `__clobbers__`.
- a file with a replaced prefix is younger than all others of its package; rattler's has the time of the installation.
- a link that paths.json marks `no_link` (openssl 1.0.2o) stays a link; rattler copies what it points to.

Neither compiles Python files, and neither runs scripts of packages.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rattler

from builder.locks.lock import Lock
from tests.support.builder.directories import PLATFORM, lock_of, open_directories
from tests.support.builder.installed import KINDS, installed
from tests.support.builder.packages import Made, Package
from tests.support.builder.services import open_service, spec_of


async def install_with_rattler(lock: Lock, target: Path, prefix: Path) -> Path:
    """Let rattler install the lock's packages into `target` as if it were `prefix`."""
    packages = lock.packages[PLATFORM]
    records = [Made(Path(), package).repodata_record() for package in packages]
    await rattler.install(
        records,
        target_prefix=target,
        cache_dir=target.with_name("cache"),
        platform=rattler.Subdir(PLATFORM),
        alternative_target_prefix=str(prefix),
        show_progress=False,
        execute_link_scripts=False,
    )
    return target


def list_directories(prefix: Path) -> set[str]:
    found = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_dir() and not path.is_symlink()}
    return {path for path in found if not path.startswith("__clobbers__")}


def read_records(prefix: Path) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_bytes()) for path in (prefix / "conda-meta").glob("*.json")}


def describe(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says of the package and of its paths."""
    names = (
        "name",
        "version",
        "build",
        "build_number",
        "subdir",
        "channel",
        "url",
        "fn",
        "depends",
        "sha256",
        "noarch",
    )
    paths = {
        entry["_path"]: _describe_path(entry)
        for entry in record["paths_data"]["paths"]
        if not entry["_path"].startswith("__clobbers__/")
    }
    files = sorted(path for path in record["files"] if not path.startswith("__clobbers__/"))
    return {name: record.get(name) or None for name in names} | {"files": files, "paths": paths}


def _describe_path(entry: dict[str, Any]) -> tuple[object, ...]:
    """rattler hashes also what the package gave no hash for, and has that of a command's script in the first field."""
    kind = entry["path_type"]
    if kind == "softlink" or (kind == "hardlink" and "sha256" not in entry and "file_mode" not in entry):
        return kind, entry.get("sha256")
    if kind == "unix_python_entry_point":
        return kind, entry.get("sha256_in_prefix", entry.get("sha256"))
    fields = ("sha256", "sha256_in_prefix", "size_in_bytes", "prefix_placeholder", "file_mode")
    return kind, *(entry.get(field) for field in fields)


async def compare(lock: Lock, tmp_path: Path) -> int:
    """Install the lock here and with rattler, compare every path, and return how many there were."""
    async with open_directories(tmp_path) as directories:
        ours = await directories.make("team", "analysis", "1", lock, PLATFORM)
    theirs = await install_with_rattler(lock, tmp_path / "rattler", ours)
    found = dict(await asyncio.to_thread(lambda: list(installed(ours))))
    expected = dict(await asyncio.to_thread(lambda: list(installed(theirs))))
    assert found.keys() ^ expected.keys() == set()
    assert {path: (found[path], each) for path, each in expected.items() if found[path] != each} == {}
    assert list_directories(ours) == list_directories(theirs)
    assert (ours / "conda-meta/history").read_text().count("==>") == 1
    for name, record in read_records(theirs).items():
        mine = read_records(ours)[name]
        assert describe(mine) == describe(record)
    return len(found)


async def test_every_kind_of_file(tmp_path: Path) -> None:
    made = [package.conda(tmp_path / "channel") for package in KINDS]
    assert await compare(lock_of(made), tmp_path) == 21
    assert not Path("/tmp/condery-ran-this").exists()


async def test_an_old_archive(tmp_path: Path) -> None:
    made = [package.tar_bz2(tmp_path / "channel", info_last=True) for package in KINDS]
    assert await compare(lock_of(made), tmp_path) == 21


@pytest.mark.parametrize("specs", [("python", "numpy", "flask"), ("jupyterlab", "pandas", "scipy")])
async def test_real_environments(sample_channel: Path, tmp_path: Path, specs: Sequence[str]) -> None:
    async with open_service(tmp_path / "service", sample_channel.as_uri(), glibc="2.36") as service:
        lock = await service.lock(spec_of(service, *specs))
    assert await compare(lock, tmp_path) > 1000


async def test_modes_and_times(tmp_path: Path) -> None:
    made = [package.conda(tmp_path / "channel") for package in KINDS]
    async with open_directories(tmp_path) as directories:
        prefix = await directories.make("team", "analysis", "1", lock_of(made), PLATFORM)

    def mode(path: str) -> int:
        return stat.S_IMODE((prefix / path).lstat().st_mode)

    assert mode("") == mode("lib") == mode("share/deep") == 0o755
    assert (mode("lib/plain"), mode("share/empty"), mode("lib/hard")) == (0o555, 0o444, 0o555)
    assert (mode("bin/text"), mode("lib/binary.so"), mode("bin/pure")) == (0o755, 0o644, 0o755)
    assert (mode("conda-meta/history"), mode("conda-meta/frozen")) == (0o644, 0o644)
    assert (prefix / "lib/plain").stat().st_mtime == 1_500_000_000
    assert (prefix / "lib/binary.so").stat().st_mtime == 1_600_000_001
    assert os.path.samefile(prefix / "lib/plain", prefix / "lib/hard")


async def test_the_mark_of_a_frozen_environment(tmp_path: Path) -> None:
    async with open_directories(tmp_path) as directories:
        lock = lock_of([KINDS[1].conda(tmp_path / "channel")])
        prefix = await directories.make("team", "analysis", "1", lock, PLATFORM)
    document = json.loads((prefix / "conda-meta/frozen").read_bytes())
    assert list(document) == ["message"]
    assert str(prefix) in document["message"]


async def test_variables_of_the_environment(tmp_path: Path) -> None:
    state = b'{"version": 1, "env_vars": {"A": "of a package", "B": "of a package"}}'
    lock = lock_of([Package("tool", files={"conda-meta/state": state}).conda(tmp_path / "channel")])
    lock = replace(lock, spec=replace(lock.spec, variables=(("A", "of the environment"), ("C", "$HOME"))))
    async with open_directories(tmp_path) as directories:
        prefix = await directories.make("team", "analysis", "1", lock, PLATFORM)
    document = json.loads((prefix / "conda-meta/state").read_bytes())
    assert document["env_vars"] == {"A": "of the environment", "B": "of a package", "C": "$HOME"}
    assert stat.S_IMODE((prefix / "conda-meta/state").stat().st_mode) == 0o644
