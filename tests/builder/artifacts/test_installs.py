"""Each file of a lock installs the lock's environment: with rattler, and as far as it goes with conda-lock."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import rattler
import yaml
from rattler.explicit_environment import ExplicitEnvironmentSpec

from builder.artifacts.artifact import ARCHIVE
from builder.locks.lock import Lock
from builder.service import BuilderService
from tests.support.builder.packages import PLACEHOLDER, File, Package
from tests.support.builder.services import make_channel, open_service, spec_of
from tests.support.programs import run

PACKAGES = [
    Package("base", files={"lib/base": b"base"}),
    Package(
        "tool",
        version="1!2.0",
        depends=["base", "words"],
        files={"etc/tool.conf": File(f"home = {PLACEHOLDER}\n".encode(), placeholder="text")},
    ),
    Package("words", noarch="generic", files={"share/words": b"words"}),
    Package("unwanted", files={"share/unwanted": b"unwanted"}),
]
INSTALLED = {"lib/base", "etc/tool.conf", "share/words"}
PLATFORM = rattler.Subdir("linux-64")


@dataclass(frozen=True)
class Locked:
    service: BuilderService
    lock: Lock
    folder: Path

    async def write(self, name: str) -> Path:
        """Have the file made as for a client, and save it under the name by which tools know it."""
        artifact = await (await self.service.demand.artifact("conda-store-dynamic/tool", "latest", name)).wait(None)
        assert artifact
        path = self.folder / name
        path.write_bytes(await self.service.builder.blobs.content(artifact.digest))
        return path


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[Locked]:
    channel = await make_channel(tmp_path / "channel", PACKAGES)
    async with open_service(tmp_path / "data", channel, glibc="2.36") as service:
        yield Locked(service, await service.lock(spec_of(service, "tool")), tmp_path)


async def install(records: Sequence[rattler.RepoDataRecord], folder: Path) -> None:
    """Install with rattler, and check that it is the lock's environment."""
    prefix = folder / "prefix"
    await rattler.install(list(records), prefix, cache_dir=folder / "cache", platform=PLATFORM, show_progress=False)
    check(prefix)


def check(prefix: Path) -> None:
    files = {path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith(("conda-meta/", "CACHEDIR"))} >= INSTALLED
    assert "share/unwanted" not in files
    assert (prefix / "etc/tool.conf").read_text() == f"home = {prefix}\n"


@pytest.mark.parametrize("name", ["conda-lock.yml", "pixi.lock"])
async def test_lock_files(locked: Locked, name: str) -> None:
    lock_file = rattler.LockFile.from_path(await locked.write(name))
    environment = lock_file.default_environment()
    assert environment
    [platform] = lock_file.platforms()
    await install(environment.conda_repodata_records_for_platform(platform) or [], locked.folder)


async def test_explicit_list(locked: Locked) -> None:
    spec = ExplicitEnvironmentSpec.from_path(await locked.write("explicit.txt"))
    assert str(spec.platform) == "linux-64"
    records = []
    for entry in spec.packages:
        url, _, sha256 = entry.url.partition("#sha256:")
        path = Path(unquote(urlsplit(url).path))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
        records.append(await rattler.RepoDataRecord.from_package_archive(path))
    await install(records, locked.folder)


async def test_environment_file(locked: Locked) -> None:
    document = yaml.safe_load((await locked.write("environment.yaml")).read_bytes())
    records = await rattler.solve(
        document["channels"],
        [rattler.MatchSpec(spec) for spec in document["dependencies"]],
        platforms=[PLATFORM, "noarch"],
    )
    assert {record.url for record in records} == {each.url for each in locked.lock.packages["linux-64"]}
    await install(records, locked.folder)


async def test_archive(locked: Locked) -> None:
    path = await locked.write(ARCHIVE)
    prefix = locked.folder / "unpacked"
    prefix.mkdir()
    await asyncio.to_thread(run, ["tar", "xzf", path, "-C", prefix])
    # the environment has no Python of its own, with which conda-unpack would run
    await asyncio.to_thread(run, [sys.executable, prefix / "bin/conda-unpack"])
    check(prefix)


async def test_conda_lock_renders_what_conda_installs(locked: Locked) -> None:
    """`conda-lock install` hands conda this list; there is no conda on PyPI to hand it to."""
    path = await locked.write("conda-lock.yml")
    command: list[str | Path] = [
        Path(sys.executable).with_name("conda-lock"),
        "render",
        "--kind",
        "explicit",
        "--platform",
        "linux-64",
        path,
    ]
    await asyncio.to_thread(run, command, directory=locked.folder)
    rendered = (locked.folder / "conda-linux-64.lock").read_text()
    lines = [line for line in rendered.splitlines() if line.startswith("file:")]
    assert sorted(lines) == sorted(f"{each.url}#{each.md5}" for each in locked.lock.packages["linux-64"])


@pytest.mark.parametrize("name", ["conda-lock.yml", "pixi.lock"])
async def test_a_real_environment_runs(name: str, sample_channel: Path, tmp_path: Path) -> None:
    async with open_service(tmp_path / "data", sample_channel.as_uri(), glibc="2.99") as service:
        artifact = await (await service.demand.artifact("conda-store-dynamic/python/numpy", "latest", name)).wait(None)
        assert artifact
        path = tmp_path / name
        path.write_bytes(await service.builder.blobs.content(artifact.digest))
    environment = rattler.LockFile.from_path(path).default_environment()
    assert environment
    prefix = tmp_path / "prefix"
    await rattler.install(
        environment.conda_repodata_records()["linux-64"], prefix, cache_dir=tmp_path / "cache", platform=PLATFORM,
        show_progress=False,
    )  # fmt: skip
    program = "import numpy; print(int(numpy.arange(10).sum()))"
    assert (await asyncio.to_thread(run, [prefix / "bin/python", "-c", program])).strip() == "45"
