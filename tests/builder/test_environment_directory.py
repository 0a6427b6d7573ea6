"""Packing an environment, on packages that are made here; `test_artifacts` does it with a real Python."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.environment_directory import PackedArchive, PackingLimits, pack
from builder.environment_layer import history
from builder.errors import ArchiveFailed
from builder.lock import Lock, LockedPackage
from builder.spec import EnvironmentSpec, PackageItem
from tests.builder.locks import package

PLACEHOLDER = "/placeholder" + "_of_a_builder" * 10


def make_package(
    folder: Path, record: LockedPackage, files: Mapping[str, bytes | str], info: Mapping[str, Any] | None = None
) -> LockedPackage:
    """Write `record`'s archive with `files` (a str is a symlink's target); the record with its true size and hashes."""
    paths: list[dict[str, Any]] = []
    members: dict[str, bytes | str] = dict(files)
    for path, content in files.items():
        if isinstance(content, str):
            paths.append({"_path": path, "path_type": "softlink", "sha256": hashlib.sha256(b"").hexdigest()})
            continue
        entry: dict[str, Any] = {"_path": path, "path_type": "hardlink", "size_in_bytes": len(content)}
        entry["sha256"] = hashlib.sha256(content).hexdigest()
        if PLACEHOLDER.encode() in content:
            entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "binary" if b"\0" in content else "text"}
        paths.append(entry)
    index = {name: getattr(record, name) for name in ("name", "version", "build", "build_number", "subdir", "noarch")}
    members["info/index.json"] = json.dumps(
        {name: value for name, value in index.items() if value} | {"build_number": 0, "depends": list(record.depends)}
    ).encode()
    members["info/paths.json"] = json.dumps({"paths": paths, "paths_version": 1}).encode()
    members |= {f"info/{name}": json.dumps(content).encode() for name, content in (info or {}).items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:bz2") as archive:
        for path, content in members.items():
            member = tarfile.TarInfo(path)
            member.mtime = 1_600_000_000
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                member.mode = 0o755 if path.startswith("bin/") else 0o644
                archive.addfile(member, io.BytesIO(content))
    data = buffer.getvalue()
    file_name = f"{record}.tar.bz2"
    (folder / file_name).write_bytes(data)
    return replace(
        record,
        file_name=file_name,
        url=f"https://conda.example.org/conda-forge/{record.subdir}/{file_name}",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        md5=hashlib.md5(data).hexdigest(),
    )


@pytest.fixture
def packages(tmp_path: Path) -> tuple[LockedPackage, ...]:
    """A tool with its prefix in text and binary, and a noarch package with an entry point for a python of sorts."""
    folder = tmp_path / "archives"
    folder.mkdir()
    shebang = f"#!{PLACEHOLDER}/bin/python3.12\nprint('hello')\n".encode()
    tool = make_package(
        folder,
        package("tool"),
        {
            "bin/hello": shebang,
            "etc/tool.conf": f"home = {PLACEHOLDER}/share\n".encode(),
            "lib/tool.bin": b"\x7f" + f"{PLACEHOLDER}/lib".encode() + b"\0rest\xff\0",
            "lib/tool.so": "tool.bin",
        },
    )
    python = make_package(folder, package("python", "3.12.8"), {"bin/python3.12": b"#!/bin/sh\n"})
    noarch = make_package(
        folder,
        package("greeter", subdir="noarch", noarch="python", depends=("python",)),
        {"site-packages/greeter.py": b"def main(): print('greetings')\n"},
        {
            "link.json": {
                "noarch": {"type": "python", "entry_points": ["greet = greeter:main"]},
                "package_metadata_version": 1,
            }
        },
    )
    return tool, python, noarch


async def packed(tmp_path: Path, lock: Lock, name: str = "work", limits: PackingLimits | None = None) -> PackedArchive:
    working = tmp_path / name
    working.mkdir()
    archives = {found.archive_key: tmp_path / "archives" / found.file_name for found in lock.packages["linux-64"]}
    return await pack(
        lock, "linux-64", archives, working, history(lock, "linux-64"), limits or PackingLimits(seconds=60)
    )


def lock_of(packages: tuple[LockedPackage, ...]) -> Lock:
    return Lock(EnvironmentSpec(items=(PackageItem("greeter"),), channels=("conda-forge",)), {"linux-64": packages})


async def test_unpacks_elsewhere(tmp_path: Path, packages: tuple[LockedPackage, ...]) -> None:
    archive = await packed(tmp_path, lock_of(packages))
    place = tmp_path / "some" / "other place"
    with tarfile.open(archive.path) as tar:
        assert len(tar.getnames()) == len(set(tar.getnames()))
        tar.extractall(place, filter="tar")
    assert f"sha256:{hashlib.sha256(archive.path.read_bytes()).hexdigest()}" == archive.digest

    subprocess.run([sys.executable, place / "bin/conda-unpack"], check=True)

    assert (place / "etc/tool.conf").read_text() == f"home = {place}/share\n"
    binary = (place / "lib/tool.bin").read_bytes()
    assert binary.startswith(b"\x7f" + f"{place}/lib\0".encode())
    assert binary.endswith(b"rest\xff\0")
    assert len(binary) == len(b"\x7f" + PLACEHOLDER.encode() + b"/lib\0rest\xff\0")
    assert (place / "lib/tool.so").readlink() == Path("tool.bin")
    assert (place / "lib/python3.12/site-packages/greeter.py").exists()
    assert (place / "bin/greet").read_text().startswith("#!/usr/bin/env python3.12\n")
    assert (place / "bin/greet").stat().st_mode & 0o777 == 0o755


async def test_metadata_names_the_channel(tmp_path: Path, packages: tuple[LockedPackage, ...]) -> None:
    lock = lock_of(packages)
    with tarfile.open((await packed(tmp_path, lock)).path) as tar:
        contents = {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]
    record = json.loads(contents["conda-meta/greeter-1.0-h0_0.json"])
    assert record["url"] == packages[2].url
    assert record["requested_specs"] == ["greeter"]
    assert contents["conda-meta/history"] == history(lock, "linux-64")
    assert not [name for name, content in contents.items() if str(tmp_path).encode() in content]


async def test_same_lock_same_bytes(tmp_path: Path, packages: tuple[LockedPackage, ...]) -> None:
    lock = lock_of(packages)
    assert (await packed(tmp_path, lock, "one")).digest == (await packed(tmp_path, lock, "two")).digest


async def test_corrupt_archive(tmp_path: Path, packages: tuple[LockedPackage, ...]) -> None:
    (tmp_path / "archives" / packages[0].file_name).write_bytes(b"not an archive")
    with pytest.raises(ArchiveFailed, match=r"tool-1\.0"):
        await packed(tmp_path, lock_of(packages))


async def test_time_limit(tmp_path: Path, packages: tuple[LockedPackage, ...]) -> None:
    with pytest.raises(ArchiveFailed, match=r"0\.01 s"):
        await packed(tmp_path, lock_of(packages), limits=PackingLimits(seconds=0.01))


async def test_memory_limit(tmp_path: Path, packages: tuple[LockedPackage, ...]) -> None:
    with pytest.raises(ArchiveFailed, match="linux-64 cannot be packed: "):
        await packed(tmp_path, lock_of(packages), limits=PackingLimits(seconds=60, memory=32 << 20))


async def test_windows(tmp_path: Path) -> None:
    lock = Lock(EnvironmentSpec(items=(), channels=()), {"win-64": ()})
    with pytest.raises(ArchiveFailed, match="Windows"):
        await pack(lock, "win-64", {}, tmp_path, b"")
