"""Locks that were written into files, sent back and built: the same packages, and the same layers."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from builder.environments.inputs.input import InputKind, InputSettings
from builder.environments.inputs.reading import read_input, read_input_aside
from builder.errors import ChannelNotAllowed, InputInvalid, PackageRefused, PolicyRefusal
from builder.image.finished import FinishedImage
from builder.locks.formats import write_conda_lock, write_explicit
from builder.locks.lock import Lock
from builder.locks.pixi_lock import write_pixi_lock
from builder.policy.settings import PolicySettings
from builder.service import BuilderService
from storage.digest import Digest
from tests.support.builder.packages import PLACEHOLDER, File, Package
from tests.support.builder.services import make_channel, manifest_of, open_service, spec_of
from tests.support.sample import sample_channel_directory

PYTHON = Package(
    name="python",
    version="3.13.1",
    files={"bin/python3.13": File(f"#!{PLACEHOLDER}\n".encode(), mode=0o775, placeholder="text")},
    python_site_packages_path="lib/python3.13t/site-packages",
)
TOOL = Package(
    name="tool",
    noarch="python",
    depends=["python >=3.10", "zlib"],
    entry_points=["tool = tool.cli:main"],
    files={"site-packages/tool/cli.py": b"def main(): print('tool')\n", "share/both": b"of tool"},
)
ZLIB = Package(name="zlib", files={"lib/libz.so": b"z", "share/both": b"of zlib"})
EVIL = Package(name="evil", files={"bin/evil": b"evil"})
PACKAGES = [PYTHON, TOOL, ZLIB, EVIL]
WRITERS = {
    InputKind.CONDA_LOCK: write_conda_lock,
    InputKind.EXPLICIT: lambda lock: write_explicit(lock, "linux-64"),
    InputKind.PIXI_LOCK: write_pixi_lock,
}


async def layers_of(service: BuilderService, image: FinishedImage) -> tuple[list[str], dict[str, bytes]]:
    """The digests of the layers of packages, and the files of the last layer."""
    manifest = await manifest_of(service, image)
    *packages, last = [layer["digest"] for layer in manifest["layers"]]
    with tarfile.open(fileobj=io.BytesIO(await service.builder.blobs.content(Digest.parse(last)))) as tar:
        files = {each.name: tar.extractfile(each).read() for each in tar if each.isfile()}  # type: ignore[union-attr]
    return packages, files


def read_back(lock: Lock, kind: InputKind, service: BuilderService) -> Lock:
    settings = InputSettings.of(service.builder.settings)
    found = read_input(WRITERS[kind](lock), settings, is_lock=True)
    assert found.kind is kind
    assert found.lock
    return found.lock


def identify(lock: Lock) -> dict[str, set[tuple[str, str | None, str]]]:
    return {
        platform: {(package.url, package.sha256, package.channel) for package in packages}
        for platform, packages in lock.packages.items()
    }


@pytest.mark.parametrize("kind", WRITERS)
async def test_a_lock_from_a_file_is_built(tmp_path: Path, kind: InputKind) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    async with open_service(tmp_path / "data", channel) as service:
        lock = await service.lock(spec_of(service, "tool"))
        layers, files = await layers_of(service, await service.builder.image(lock))
        sent = read_back(lock, kind, service)
        assert identify(sent) == identify(lock)
        completed = await service.builder.complete(sent)
        assert [replace(p, since=None) for p in completed.packages["linux-64"]] == [
            replace(p, since=None, md5=p.md5 if kind is not InputKind.EXPLICIT else None)
            for p in lock.packages["linux-64"]
        ]
        again, other = await layers_of(service, await service.builder.image(completed))
    assert again == layers
    records = [name for name in files if name.startswith("opt/conda/conda-meta/") and name.endswith("-0.json")]
    assert len(records) == 3
    for name in records:
        ours, theirs = json.loads(files[name]), json.loads(other[name])
        for record in (ours, theirs):
            for key in ("requested_spec", "requested_specs", "md5"):
                record.pop(key, None)
        assert ours == theirs


async def test_two_platforms_make_the_same_lock_again(tmp_path: Path) -> None:
    arm = Package(name="zlib", subdir="linux-aarch64", files={"lib/libz.so": b"arm"})
    channel = await make_channel(tmp_path / "channel", [ZLIB, arm])
    async with open_service(tmp_path / "data", channel, platforms=("linux-64", "linux-aarch64")) as service:
        lock = await service.lock(spec_of(service, "zlib"))
        for kind in (InputKind.CONDA_LOCK, InputKind.PIXI_LOCK):
            assert identify(read_back(lock, kind, service)) == identify(lock)


async def test_a_real_python(tmp_path: Path) -> None:
    channel = sample_channel_directory().as_uri()
    async with open_service(tmp_path / "data", channel, base="host") as service:
        lock = await service.lock(spec_of(service, "python", "numpy"))
        layers, _ = await layers_of(service, await service.builder.image(lock))
        for kind in WRITERS:
            completed = await service.builder.complete(read_back(lock, kind, service))
            again, _ = await layers_of(service, await service.builder.image(completed))
            assert again == layers


async def test_an_archive_by_another_name_is_refused(tmp_path: Path) -> None:
    """The lock names an allowed package, and the hash of another one that is there."""
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    (tmp_path / "channel/linux-64/good-1.0-0.conda").write_bytes(
        (tmp_path / "channel/linux-64/evil-1.0-0.conda").read_bytes()
    )
    async with open_service(tmp_path / "data", channel) as service:
        lock = await service.lock(spec_of(service, "evil"))
        content = write_explicit(lock, "linux-64").replace(b"/evil-", b"/good-")
        found = read_input(content, InputSettings.of(service.builder.settings))
        assert found.lock
        with pytest.raises(PackageRefused, match=r"good-1\.0-0.*the archive that its lock names says name 'evil'"):
            await service.builder.complete(found.lock)


async def test_rules_judge_what_the_archives_say(tmp_path: Path) -> None:
    copyleft = Package("copyleft", license="GPL-3.0-only", files={"share/x": b"x"})
    channel = await make_channel(tmp_path / "channel", [copyleft])
    async with open_service(tmp_path / "one", channel) as service:
        lock = await service.lock(spec_of(service, "copyleft"))
    content = write_pixi_lock(lock).replace(b"GPL-3.0-only", b"MIT")
    assert b"license: MIT" in content
    async with open_service(tmp_path / "two", channel, rules=PolicySettings(denied_licenses=("GPL-*",))) as service:
        found = read_input(content, InputSettings.of(service.builder.settings))
        assert found.lock
        with pytest.raises(PolicyRefusal, match=r"copyleft.*GPL-3\.0-only"):
            await service.builder.complete(found.lock)


async def test_a_channel_that_is_not_allowed_is_not_read(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    content = f"@EXPLICIT\nhttps://other.example.org/x/noarch/a-1.0-0.conda#{'a' * 32}\n".encode()
    async with open_service(tmp_path / "data", channel, allowed_channels=("https://conda.example.org/*",)) as service:
        found = read_input(content, InputSettings.of(service.builder.settings))
        assert found.lock
        with pytest.raises(ChannelNotAllowed, match=r"other\.example\.org/x"):
            await service.builder.complete(found.lock)


async def test_files_are_read_in_a_worker(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    async with open_service(tmp_path / "data", channel) as service:
        pool, settings = service.builder.pool, InputSettings.of(service.builder.settings)
        found = await read_input_aside(b"name: a\ndependencies: [x]\n", settings, pool)
        assert found == read_input(b"name: a\ndependencies: [x]\n", settings)
        with pytest.raises(InputInvalid, match=r"^dependencies\[0\]: 'x>>1' is not a match spec") as caught:
            await read_input_aside(b"name: a\ndependencies: ['x>>1']\n", settings, pool)
        assert caught.value.path == "dependencies[0]"
        with pytest.raises(InputInvalid, match="it has 2097152 bytes"):
            await read_input_aside(b"#" * (2 << 20), settings, pool)
        with pytest.raises(InputInvalid, match="takes more time or memory than allowed"):
            await read_input_aside(b"name: a\ndependencies: [x]\n", settings, pool, seconds=0)
        values = b"package:\n" + b"- [{a: b, c: d}]\n" * 260_000
        with pytest.raises(InputInvalid, match=r"it has more than 1000000 values|more time or memory than allowed"):
            await read_input_aside(values, settings, pool)
