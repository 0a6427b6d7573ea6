"""Packing an environment, on packages that are made here; `test_artifacts` does it with a real Python."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from builder.environment_directory import PackedArchive, PackingLimits, pack
from builder.environment_layer import history
from builder.errors import ArchiveFailed
from builder.lock import Lock
from builder.spec import EnvironmentSpec, PackageItem
from tests.builder.packages import PLACEHOLDER, File, Link, Made, Package
from tests.unpacking import extract_all

SITE_PACKAGES = "lib/python3.13t/site-packages"

TOOL = Package(
    "tool",
    files={
        "bin/hello": File(f"#!{PLACEHOLDER}/bin/python3.13\nprint('hello')\n".encode(), 0o755, "text"),
        "etc/tool.conf": File(f"home = {PLACEHOLDER}/share\n".encode(), placeholder="text"),
        "lib/tool.bin": File(b"\x7f" + f"{PLACEHOLDER}/lib".encode() + b"\0rest\xff\0", placeholder="binary"),
        "lib/tool.so": Link("tool.bin"),
        "share/both.txt": b"of tool\n",
    },
)
PYTHON = Package(
    "python",
    "3.13.1",
    files={"bin/python3.13": File(b"#!/bin/sh\n", 0o755)},
    python_site_packages_path=SITE_PACKAGES,
)
GREETER = Package(
    "greeter",
    depends=("python", "tool"),
    noarch="python",
    files={
        "site-packages/greeter.py": b"def main(): print('greetings')\n",
        "python-scripts/wave": File(f"#!{PLACEHOLDER}/bin/python\n".encode(), 0o755, "text"),
        "share/both.txt": b"of greeter\n",
    },
    entry_points=("greet = greeter:main",),
)


@pytest.fixture
def packages(tmp_path: Path) -> list[Made]:
    """A tool with its prefix in text and binary, a python of sorts, and a noarch package for it."""
    folder = tmp_path / "channel"
    return [TOOL.conda(folder), PYTHON.tar_bz2(folder), GREETER.conda(folder)]


async def packed(tmp_path: Path, packages: list[Made], name: str = "work", **limits: float) -> PackedArchive:
    working = tmp_path / name
    working.mkdir()
    archives = {made.record.archive_key: made.path for made in packages}
    lock = lock_of(packages)
    allowed = PackingLimits(seconds=limits.get("seconds", 60), memory=int(limits.get("memory", 4 << 30)))
    return await pack(lock, "linux-64", archives, working, history(lock, "linux-64"), allowed)


def lock_of(packages: list[Made]) -> Lock:
    spec = EnvironmentSpec(items=(PackageItem("greeter"),), channels=("conda-forge",))
    return Lock(spec, {"linux-64": tuple(made.record for made in packages)})


async def test_unpacks_elsewhere(tmp_path: Path, packages: list[Made]) -> None:
    archive = await packed(tmp_path, packages)
    place = tmp_path / "some" / "other place"
    with tarfile.open(archive.path) as tar:
        assert len(tar.getnames()) == len(set(tar.getnames()))
        extract_all(tar, place)
    assert f"sha256:{hashlib.sha256(archive.path.read_bytes()).hexdigest()}" == archive.digest

    subprocess.run([sys.executable, place / "bin/conda-unpack"], check=True)

    assert (place / "etc/tool.conf").read_text() == f"home = {place}/share\n"
    binary = (place / "lib/tool.bin").read_bytes()
    assert binary.startswith(b"\x7f" + f"{place}/lib\0".encode())
    assert binary.endswith(b"rest\xff\0")
    assert len(binary) == len(b"\x7f" + PLACEHOLDER.encode() + b"/lib\0rest\xff\0")
    assert (place / "lib/tool.so").readlink() == Path("tool.bin")
    assert (place / SITE_PACKAGES / "greeter.py").exists()
    assert (place / "bin/hello").read_text().startswith("#!/usr/bin/env python3.13\n")
    assert (place / "bin/wave").read_text() == "#!/usr/bin/env python\n"
    assert (place / "bin/greet").read_text().startswith("#!/usr/bin/env python3.13\n")
    assert (place / "bin/greet").stat().st_mode & 0o777 == 0o755


async def test_one_of_two_files_of_one_path(tmp_path: Path, packages: list[Made]) -> None:
    """The later in dependency order wins, and nothing is left of the other."""
    with tarfile.open((await packed(tmp_path, packages)).path) as tar:
        assert read(tar, "share/both.txt") == b"of greeter\n"
        assert not [name for name in tar.getnames() if "clobber" in name]
        loser = json.loads(read(tar, "conda-meta/tool-1.0-0.json"))
    paths = [entry["_path"] for entry in loser["paths_data"]["paths"]]
    assert paths == loser["files"] == ["bin/hello", "etc/tool.conf", "lib/tool.bin", "lib/tool.so"]


async def test_metadata_names_the_channel(tmp_path: Path, packages: list[Made]) -> None:
    with tarfile.open((await packed(tmp_path, packages)).path) as tar:
        record = json.loads(read(tar, "conda-meta/greeter-1.0-0.json"))
        assert read(tar, "conda-meta/history") == history(lock_of(packages), "linux-64")
        told = [m.name for m in tar if m.isreg() and str(tmp_path / "work").encode() in read(tar, m.name)]
    assert record["url"] == packages[2].record.url
    assert record["requested_specs"] == ["greeter"]
    assert told == []


async def test_same_lock_same_bytes(tmp_path: Path, packages: list[Made]) -> None:
    assert (await packed(tmp_path, packages, "one")).digest == (await packed(tmp_path, packages, "two")).digest


def read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file
    return file.read()


async def test_corrupt_archive(tmp_path: Path, packages: list[Made]) -> None:
    packages[0].path.write_bytes(b"not an archive")
    with pytest.raises(ArchiveFailed, match=r"tool-1\.0"):
        await packed(tmp_path, packages)


async def test_time_limit(tmp_path: Path, packages: list[Made]) -> None:
    with pytest.raises(ArchiveFailed, match=r"0\.01 s"):
        await packed(tmp_path, packages, seconds=0.01)


async def test_memory_limit(tmp_path: Path, packages: list[Made]) -> None:
    with pytest.raises(ArchiveFailed, match="linux-64 cannot be packed: "):
        await packed(tmp_path, packages, memory=1 << 20)


async def test_windows(tmp_path: Path) -> None:
    lock = Lock(EnvironmentSpec(items=(), channels=()), {"win-64": ()})
    with pytest.raises(ArchiveFailed, match="Windows"):
        await pack(lock, "win-64", {}, tmp_path, b"")
