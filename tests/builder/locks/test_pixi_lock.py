"""A pixi.lock holds what rattler's own LockFile of the same records holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import rattler
import yaml
from rattler import LockChannel, LockFile, LockPlatform

from builder.locks.formats import write_conda_lock
from builder.locks.lock import Lock, LockedPackage
from builder.locks.pixi_lock import write_pixi_lock
from builder.names.spec import EnvironmentSpec
from tests.support.builder.locks import CHANNEL, LOCK, SPEC, package
from tests.support.builder.packages import Package

PLATFORMS = ("linux-64", "linux-aarch64")
ODD = (
    # what does not follow from the URL
    package("odd", "1.0", "h0_0", build_number=7),
    package("renamed", "2.0", "h0_1", file_name="other-3.0-x_1.conda", url=f"{CHANNEL}/linux-64/other-3.0-x_1.conda",
            build_number=1),
    package("generic-py", "1", "pyhd8_0", subdir="noarch", noarch="generic"),
    package("python-gen", "1", "hd8_0", subdir="noarch", noarch="python"),
    package("elsewhere", "1", channel="bioconda", url="https://mirror.example.org/x/linux-64/elsewhere-1-h0_0.conda"),
    package("oci", url="oci://a.example.org/forge/linux-64/oci-1.0-h0_0.conda"),
    package("armv6", url="https://a.example.org/x/y/armv6-1.0-h0_0.conda"),
    # what YAML might take for a number
    package("number", "1e5", "0o17", build_number=17, md5="123456789012345e6789012345678901"),
    package("bare", sha256=None, license="LicenseRef-Odd: 'x'", constrains=("other >=1", "third 1.*"), size=None),
    package("undated", timestamp=None, python_site_packages_path="lib/python3.13/site-packages"),
)  # fmt: skip

TWO_PLATFORMS = Lock(
    dataclasses.replace(SPEC, platforms=PLATFORMS, channels=("conda-forge", "bioconda", "https://a.example.org/own")),
    {
        "linux-64": (*LOCK.packages["linux-64"], *ODD),
        "linux-aarch64": (
            package("python", "3.12.8", subdir="linux-aarch64"),
            package("tzdata", "2026a", "h0_0", subdir="noarch", noarch="generic", timestamp=1_700_000_100_000),
        ),
    },
)
ADDRESSES = {
    "conda-forge": f"{CHANNEL}/",
    "bioconda": "https://conda.example.org/bioconda/",
    "https://a.example.org/own": "https://a.example.org/own/",
}


def read(path: Path, content: bytes) -> LockFile:
    path.write_bytes(content)
    return LockFile.from_path(path)


def record_of(locked: LockedPackage) -> rattler.RepoDataRecord:
    """What rattler would lock. It has no timestamp: rattler's constructor takes none."""
    record = rattler.PackageRecord(
        locked.name,
        locked.version,
        rattler.BuildString(locked.build),
        locked.build_number,
        locked.subdir,
        noarch=locked.noarch,  # type: ignore[arg-type] # one of the two that there are
        depends=list(locked.depends),
        constrains=list(locked.constrains),
        sha256=bytes.fromhex(locked.sha256) if locked.sha256 else None,
        md5=bytes.fromhex(locked.md5) if locked.md5 else None,
        size=locked.size,
        license=locked.license,
        python_site_packages_path=locked.python_site_packages_path,
    )
    return rattler.RepoDataRecord(record, locked.url.rpartition("/")[2], locked.url, ADDRESSES[locked.channel])


def test_rattler_writes_the_same_of_what_it_reads(tmp_path: Path) -> None:
    undated = Lock(
        TWO_PLATFORMS.spec,
        {
            platform: tuple(dataclasses.replace(each, timestamp=None) for each in packages)
            for platform, packages in TWO_PLATFORMS.packages.items()
        },
    )
    platforms = {name: LockPlatform(name) for name in PLATFORMS}
    theirs = LockFile(list(platforms.values()))
    theirs.set_channels("default", [LockChannel(ADDRESSES[channel]) for channel in undated.spec.channels])
    for name, packages in undated.packages.items():
        for each in packages:
            theirs.add_conda_package("default", platforms[name], record_of(each))
    theirs.to_path(tmp_path / "theirs.lock")
    read(tmp_path / "pixi.lock", write_pixi_lock(undated)).to_path(tmp_path / "ours.lock")

    assert (tmp_path / "ours.lock").read_text() == (tmp_path / "theirs.lock").read_text()


def test_every_field_is_read_back(tmp_path: Path) -> None:
    lock_file = read(tmp_path / "pixi.lock", write_pixi_lock(TWO_PLATFORMS))
    assert [name for name, _ in lock_file.environments()] == ["default"]
    environment = lock_file.default_environment()
    assert environment
    assert [str(channel) for channel in environment.channels()] == list(ADDRESSES.values())
    records = environment.conda_repodata_records()
    assert records.keys() == set(PLATFORMS)
    for platform, packages in TWO_PLATFORMS.packages.items():
        assert sorted(map(describe, records[platform])) == sorted(map(describe_locked, packages))


def describe(record: rattler.RepoDataRecord) -> Any:
    timestamp = record.timestamp
    return (
        record.name.normalized, str(record.version), str(record.build), record.build_number, str(record.subdir),
        str(record.url), record.sha256.hex() if record.sha256 else "", record.md5.hex() if record.md5 else "",
        list(record.depends), list(record.constrains), record.size or 0, record.license or "",
        round(timestamp.timestamp() * 1000) if timestamp else 0, record.python_site_packages_path or "",
    )  # fmt: skip


def describe_locked(each: LockedPackage) -> Any:
    return (
        each.name, each.version, each.build, each.build_number, each.subdir, each.url, each.sha256 or "",
        each.md5 or "", list(each.depends), list(each.constrains), each.size or 0, each.license or "",
        each.timestamp or 0, each.python_site_packages_path or "",
    )  # fmt: skip


async def test_rattler_installs_it(tmp_path: Path) -> None:
    channel = tmp_path / "channel"
    tool = Package("tool", files={"bin/tool": b"tool"}).conda(channel)
    noarch = Package("words", noarch="generic", files={"share/words": b"words"}).tar_bz2(channel)
    lock_file = read(tmp_path / "pixi.lock", write_pixi_lock(Lock(SPEC, {"linux-64": (tool.record, noarch.record)})))
    environment = lock_file.default_environment()
    assert environment
    records = environment.conda_repodata_records_for_platform(lock_file.platforms()[0])
    target = tmp_path / "environment"
    await rattler.install(
        records or [], target, cache_dir=tmp_path / "cache", platform=rattler.Subdir("linux-64"), show_progress=False
    )
    assert (target / "bin/tool").read_bytes() == b"tool"
    assert (target / "share/words").read_bytes() == b"words"


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("conda-forge", "https://conda.anaconda.org/conda-forge/"),
        ("https://a.example.org/own/", "https://a.example.org/own/"),
        ("/srv/channel", "file:///srv/channel/"),
    ],
)
def test_channel_without_packages(channel: str, expected: str) -> None:
    empty = Lock(EnvironmentSpec(items=(), channels=(channel,)), {"linux-64": ()})
    document = yaml.safe_load(write_pixi_lock(empty))
    assert document["environments"]["default"] == {"channels": [{"url": expected}], "packages": {"linux-64": []}}
    assert document["packages"] == []


def test_rattler_reads_odd_numbers_in_a_conda_lock(tmp_path: Path) -> None:
    lock = Lock(SPEC, {"linux-64": ODD})
    environment = read(tmp_path / "conda-lock.yml", write_conda_lock(lock)).default_environment()
    assert environment
    [found] = [each for each in environment.conda_repodata_records()["linux-64"] if each.name.normalized == "number"]
    assert found.md5
    assert (str(found.version), found.md5.hex()) == ("1e5", "123456789012345e6789012345678901")
