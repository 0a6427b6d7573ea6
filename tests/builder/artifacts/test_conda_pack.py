"""Archives of environments, on packages that are made here; `test_artifacts` does it with a real Python.

The peer is conda-pack over what rattler installed.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import conda_pack
import pytest

from builder.artifacts.artifact import ARCHIVE, make_artifact
from builder.errors import ArchiveFailed, BuilderError, PackageRefused, PathConflict
from builder.image.environment_layer import write_history
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec
from builder.packages.relocation import CHECK, LARGEST_SCRIPT, NO_BYTECODE
from builder.service import BuilderService
from tests.support.builder.packages import PLACEHOLDER, Directory, File, Link, Package, install
from tests.support.builder.services import make_channel, open_service, spec_of
from tests.support.unpacking import extract_all

SITE_PACKAGES = "lib/python3.13t/site-packages"

TOOL = Package(
    "tool",
    files={
        "bin/hello": File(f"#!{PLACEHOLDER}/bin/python3.13\nprint('hello')\n".encode(), 0o755, "text"),
        "etc/tool.conf": File(f"home = {PLACEHOLDER}/share\n".encode(), placeholder="text"),
        "lib/tool.bin": File(b"\x7f" + f"{PLACEHOLDER}/lib".encode() + b"\0rest\xff\0", placeholder="binary"),
        "lib/tool.so": Link("tool.bin"),
        "lib/twin.bin": Link("lib/tool.bin", hard=True, placeholder="binary"),
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

PACKAGES = (TOOL, PYTHON, GREETER)


async def archive_of(service: BuilderService, *specs: str) -> bytes:
    """The bytes of `archive.tar.gz`, as they are stored."""
    lock = await service.lock(spec_of(service, *specs))
    async with service.builder._take_turn_to_pack(lock, ARCHIVE) as pack:
        artifact = await make_artifact(
            ARCHIVE, lock, blobs=service.builder.blobs, layers=service.builder.layers.store, pack=pack
        )
    content = await service.builder.blobs.content(artifact.digest)
    assert len(content) == artifact.size
    return content


async def packed(tmp_path: Path, packages: tuple[Package, ...] = PACKAGES, *specs: str, **settings: Any) -> bytes:
    channel = await make_channel(tmp_path / "channel", packages)
    async with open_service(tmp_path / "data", channel, **settings) as service:
        return await archive_of(service, *(specs or [package.name for package in packages]))


def opened(content: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(content), mode="r:gz")


def read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file
    return file.read()


def unpacked(content: bytes, place: Path) -> Path:
    with opened(content) as tar:
        assert len(tar.getnames()) == len(set(tar.getnames()))
        assert {(member.uid, member.gid, member.mode) for member in tar if not member.issym()} <= {
            (0, 0, 0o644),
            (0, 0, 0o755),
        }
        extract_all(tar, place)
    return place


async def test_unpacks_elsewhere(tmp_path: Path) -> None:
    place = unpacked(await packed(tmp_path), tmp_path / "some" / "other place")

    subprocess.run([sys.executable, place / "bin/conda-unpack"], check=True)

    assert (place / "etc/tool.conf").read_text() == f"home = {place}/share\n"
    binary = (place / "lib/tool.bin").read_bytes()
    assert binary.startswith(b"\x7f" + f"{place}/lib\0".encode())
    assert binary.endswith(b"rest\xff\0")
    assert len(binary) == len(b"\x7f" + PLACEHOLDER.encode() + b"/lib\0rest\xff\0")
    assert (place / "lib/twin.bin").read_bytes() == binary
    assert (place / "lib/tool.so").readlink() == Path("tool.bin")
    assert (place / SITE_PACKAGES / "greeter.py").exists()
    assert (place / "bin/hello").read_text().startswith("#!/usr/bin/env python3.13\n")
    assert (place / "bin/wave").read_text() == "#!/usr/bin/env python\n"
    assert (place / "bin/greet").read_text().startswith("#!/usr/bin/env python3.13\n")
    assert (place / "bin/greet").stat().st_mode & 0o777 == 0o755


async def test_it_is_what_conda_pack_makes(tmp_path: Path) -> None:
    """Every path with its kind, mode class and content, and conda-unpack with its table.

    Apart from conda-meta, which is as in condery's images, and from directories, of which conda-pack has none but the
    empty. conda-pack does not know CEP 17, so this python has the usual site-packages.
    """
    odd = Package(
        "odd",
        files={
            "bin/env-script": File(f"#!{PLACEHOLDER}/bin/perl -w\n".encode(), 0o755, "text"),
            "bin/two-places": File(f"#!{PLACEHOLDER}/bin/sh\n# {PLACEHOLDER}\n".encode(), 0o755, "text"),
            "bin/no-shebang": File(f"cd {PLACEHOLDER}\n".encode(), 0o755, "text"),
            "bin/program": File(b"\x7fELF" + PLACEHOLDER.encode() + b"\0", 0o755, "binary"),
            "bin/python-odd": File(PLACEHOLDER.encode(), 0o755, "text"),
            "bin/link": Link("program", placeholder="text"),
            "share/\u00e9 'quoted\\": File(PLACEHOLDER.encode(), placeholder="text"),
            "share/plain": b"plain",
            "share/twin": Link("share/plain", hard=True),
            "share/" + "deep/" * 40 + "name": b"deep",
        },
    )
    python = replace(PYTHON, python_site_packages_path=None)
    packages = (TOOL, python, GREETER, odd)
    ours = described(await packed(tmp_path, packages))
    made = [package.conda(tmp_path / "again") for package in (replace(TOOL, files=without_both(TOOL)), *packages[1:])]
    prefix = await install(made, tmp_path / "p", str(tmp_path / "p"))
    output = tmp_path / "theirs.tar.gz"
    await asyncio.to_thread(conda_pack.pack, prefix=str(prefix), output=str(output))
    theirs = described(output.read_bytes())
    for found in (ours, theirs):
        for path in [path for path in found if path.startswith("conda-meta/") or path == "CACHEDIR.TAG"]:
            del found[path]
    assert table(ours.pop("bin/conda-unpack")) == table(theirs.pop("bin/conda-unpack"))
    assert ours == theirs


def without_both(package: Package) -> dict[str, Any]:
    """The files of the package that loses the path which another has too: conda-pack takes both."""
    return {path: entry for path, entry in package.files.items() if path != "share/both.txt"}


def described(content: bytes) -> dict[str, tuple[str, bool, object]]:
    """By path: kind, whether it may be run, content or the link's target. Hard links are files."""
    found: dict[str, tuple[str, bool, object]] = {}
    with opened(content) as tar:
        for member in tar:
            if member.issym():
                found[member.name] = ("link", False, member.linkname)
            elif not member.isdir():
                found[member.name] = ("file", bool(member.mode & 0o111), read(tar, member.name))
    return found


def table(script: tuple[str, bool, object]) -> tuple[str, bool, str, list[str]]:
    """conda-unpack apart from the order of what it changes, and from the check that condery adds."""
    kind, executable, content = script
    assert isinstance(content, bytes)
    before, _, rest = content.decode().replace(CHECK, "").replace(NO_BYTECODE, "").partition("_prefix_records = [\n")
    rows, _, after = rest.partition("\n]\n")
    found = sorted(row.rstrip(",") for row in rows.split("\n") if "CACHEDIR.TAG" not in row)
    return kind, executable, before + after, found


async def test_one_of_two_files_of_one_path(tmp_path: Path) -> None:
    """The later in dependency order wins, and nothing is left of the other."""
    with opened(await packed(tmp_path)) as tar:
        assert read(tar, "share/both.txt") == b"of greeter\n"
        loser = json.loads(read(tar, "conda-meta/tool-1.0-0.json"))
    paths = [entry["_path"] for entry in loser["paths_data"]["paths"]]
    assert paths == loser["files"] == ["bin/hello", "etc/tool.conf", "lib/tool.bin", "lib/tool.so", "lib/twin.bin"]


async def test_metadata_names_the_channel(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    async with open_service(tmp_path / "data", channel) as service:
        with opened(await archive_of(service, "greeter")) as tar:
            record = json.loads(read(tar, "conda-meta/greeter-1.0-0.json"))
            lock = await service.lock(spec_of(service, "greeter"))
            assert read(tar, "conda-meta/history") == write_history(lock, "linux-64")
            told = [m.name for m in tar if m.isreg() and str(tmp_path / "data").encode() in read(tar, m.name)]
    assert record["url"] == f"{channel}/noarch/greeter-1.0-0.conda"
    assert record["requested_specs"] == ["greeter"]
    assert told == []


async def test_same_lock_same_bytes(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    contents = []
    for name, workers, joins in (("one", 1, True), ("two", 3, True), ("three", 2, False)):
        async with open_service(tmp_path / name, channel, workers=workers, joins=joins) as service:
            contents += [await archive_of(service, "greeter"), await archive_of(service, "greeter")]
    assert len(set(contents)) == 1


async def test_a_broken_fragment_is_made_anew(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    async with open_service(tmp_path / "data", channel) as service:
        first = await archive_of(service, "greeter")
        for path in (tmp_path / "data" / "fragments").rglob("*"):
            if path.is_file() and not path.suffix:
                path.write_bytes(bytes(path.stat().st_size))
        assert await archive_of(service, "greeter") == first


async def test_conda_packs_own_scripts_win(tmp_path: Path) -> None:
    conda = Package("conda", files={"bin/activate": File(PLACEHOLDER.encode(), 0o755, "text"), "bin/conda": b"x"})
    with opened(await packed(tmp_path, (conda,))) as tar:
        assert b"conda-pack" in read(tar, "bin/activate") or PLACEHOLDER.encode() not in read(tar, "bin/activate")
        assert len(tar.getnames()) == len(set(tar.getnames()))
        assert b"'bin/activate'" not in read(tar, "bin/conda-unpack")
        assert read(tar, "bin/conda") == b"x"


@pytest.mark.parametrize(
    "files", [{"bin": Link("../../etc")}, {"bin/activate/x": b""}, {"bin": b"", "bin2/y": b""}], ids=str
)
async def test_what_is_in_the_way_of_conda_packs_scripts(tmp_path: Path, files: Mapping[str, Any]) -> None:
    with pytest.raises(PathConflict, match="conda-pack"):
        await packed(tmp_path, (Package("odd", files=files),))


async def test_an_interpreter_of_long_name_is_left_to_conda_unpack(tmp_path: Path) -> None:
    content = await packed(tmp_path, PACKAGES, prefix="/opt/" + "x" * 130)
    place = unpacked(content, tmp_path / "place")
    assert (place / "bin/greet").read_text().startswith("#!/bin/sh\n")
    subprocess.run([sys.executable, place / "bin/conda-unpack"], check=True)
    assert f'"{place}/bin/python3.13"' in (place / "bin/greet").read_text()


async def test_a_large_script_is_left_to_conda_unpack(tmp_path: Path) -> None:
    script = f"#!{PLACEHOLDER}/bin/x\n".encode() + b"#" * LARGEST_SCRIPT
    odd = Package("odd", files={"bin/large": File(script, 0o755, "text")})
    place = unpacked(await packed(tmp_path, (odd,)), tmp_path / "place")
    assert (place / "bin/large").read_bytes() == script
    subprocess.run([sys.executable, place / "bin/conda-unpack"], check=True)
    assert (place / "bin/large").read_bytes().startswith(f"#!{place}/bin/x\n".encode())


async def test_a_place_of_too_long_a_path_is_told_before_anything_is_changed(tmp_path: Path) -> None:
    short, shorter = "/opt/" + "s" * 10, "/opt/s"

    def binary(placeholder: str) -> File:
        return File(f"{placeholder}/lib\0".encode(), prefix=placeholder, placeholder="binary")

    odd = Package("odd", files={"lib/a": binary(short), "lib/b": binary(shorter), "lib/c": File(b"\0")})
    content = await packed(tmp_path, (*PACKAGES, odd))
    place = unpacked(content, tmp_path / "place")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}

    # A test runner may have forbidden bytecode, which would hide that the script itself must not leave any.
    writing = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ended = subprocess.run(
        [sys.executable, place / "bin/conda-unpack"], capture_output=True, text=True, check=False, env=writing
    )

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "'lib/b' of odd-1.0-0 can hold the path of a place of at most 6 bytes" in ended.stderr
    assert f"{place} has {len(str(place))}" in ended.stderr
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


async def test_a_file_of_placeholders_alone_does_not_keep_the_check_busy(tmp_path: Path) -> None:
    """None of them is before a NUL, and the time for looking after each would be its size squared."""
    short = "/opt/s"
    odd = Package(
        "odd",
        files={
            "lib/a": File(short.encode() * 1_000_000, prefix=short, placeholder="binary"),
            "lib/b": File(f"{short}/lib\0".encode(), prefix=short, placeholder="binary"),
        },
    )
    place = unpacked(await packed(tmp_path, (odd,)), tmp_path / "place")
    command = [sys.executable, str(place / "bin/conda-unpack")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "'lib/b' of odd-1.0-0 can hold the path of a place of at most 6 bytes" in ended.stderr


async def test_a_placeholder_that_is_nowhere_is_not_too_short(tmp_path: Path) -> None:
    odd = Package("odd", files={"lib/a": File(b"no path\0", prefix="/opt/s", placeholder="binary")})
    place = unpacked(await packed(tmp_path, (*PACKAGES, odd)), tmp_path / "place")
    for _ in range(2):
        subprocess.run([sys.executable, place / "bin/conda-unpack"], check=True)
    assert (place / "etc/tool.conf").read_text() == f"home = {place}/share\n"


async def test_a_link_that_is_listed_as_a_file_is_not_written_through(tmp_path: Path) -> None:
    """conda-unpack opens what its table names, on the machine of whoever unpacks."""
    victim = tmp_path / "victim"
    victim.write_text(PLACEHOLDER)
    listing = json.dumps(
        {
            "paths_version": 1,
            "paths": [
                {"_path": "etc/x", "path_type": "hardlink", "prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
            ],
        }
    ).encode()
    odd = Package("odd", files={"etc/x": Link(str(victim))}, info={"paths.json": listing})
    place = unpacked(await packed(tmp_path, (odd,)), tmp_path / "place")
    subprocess.run([sys.executable, place / "bin/conda-unpack"], check=True)
    assert victim.read_text() == PLACEHOLDER


async def test_corrupt_archive(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    (tmp_path / "channel/linux-64/tool-1.0-0.conda").write_bytes(b"not an archive")
    async with open_service(tmp_path / "data", channel) as service:
        with pytest.raises(BuilderError, match="tool"):
            await archive_of(service, "greeter")


async def test_scripts_that_copying_cannot_run_are_refused_where_images_are(tmp_path: Path) -> None:
    odd = Package("odd", files={"bin/.odd-post-link.sh": b""})
    with pytest.raises(PackageRefused, match="post-link"):
        await packed(tmp_path, (odd,), refuse_scripts=True)


async def test_time_limit(tmp_path: Path) -> None:
    with pytest.raises(ArchiveFailed, match=r"0\.001 s"):
        await packed(tmp_path, archive_seconds=0.001)


async def test_windows(tmp_path: Path) -> None:
    lock = Lock(EnvironmentSpec(items=(), channels=()), {"win-64": ()})
    channel = await make_channel(tmp_path / "channel", [])
    async with open_service(tmp_path / "data", channel) as service:
        with pytest.raises(ArchiveFailed, match="Windows"):
            await service.builder.artifact(lock, ARCHIVE)


async def test_an_empty_directory(tmp_path: Path) -> None:
    place = unpacked(await packed(tmp_path, (Package("odd", files={"var/empty": Directory()}),)), tmp_path / "place")
    assert (place / "var/empty").is_dir()
