"""What is written must be what other people's tools read."""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path

import pytest
import rattler
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import FormatUnsuitable
from builder.locks.description import find_newest, format_time, suggest_name
from builder.locks.formats import FORMATS, PYLOCK, FormatName, write_conda_lock, write_environment_file, write_explicit
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec, PackageItem
from tests.support.builder.locks import LOCK, SPEC, package
from tests.support.builder.packages import Package

with warnings.catch_warnings():
    # conda-lock and its own copy of conda use what is deprecated when they are imported
    warnings.simplefilter("ignore")
    from conda_lock.lockfile import parse_conda_lock_file
    from conda_lock.lockfile.v1.models import Lockfile

TWO_PLATFORMS = Lock(
    dataclasses.replace(SPEC, platforms=("linux-64", "linux-aarch64")),
    {
        **LOCK.packages,
        "linux-aarch64": (package("python", "3.12.8", subdir="linux-aarch64"), package("tzdata", subdir="noarch")),
    },
)


def test_conda_lock_models_write_the_same() -> None:
    content = write_conda_lock(TWO_PLATFORMS)
    document = yaml.safe_load(content)
    assert Lockfile.model_validate(document).dict_for_output() == document
    dumped = yaml.dump(document, sort_keys=False, width=1000)
    assert content.decode().endswith(dumped)


def test_conda_lock_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_bytes(write_conda_lock(TWO_PLATFORMS))
    read = {(found.platform, found.name): found for found in parse_conda_lock_file(path).package}
    assert read.keys() == {(platform, p.name) for platform, ps in TWO_PLATFORMS.packages.items() for p in ps}
    numpy = LOCK.packages["linux-64"][3]
    assert read["linux-64", "numpy"].url == numpy.url
    assert read["linux-64", "numpy"].hash.sha256 == numpy.sha256


def test_rattler_reads_conda_lock(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_bytes(write_conda_lock(TWO_PLATFORMS))
    lock_file = rattler.LockFile.from_path(path)
    environment = lock_file.default_environment()
    assert environment is not None
    for platform in lock_file.platforms():
        records = environment.conda_repodata_records_for_platform(platform) or []
        expected = TWO_PLATFORMS.packages[str(platform.name)]
        assert {(r.name.normalized, str(r.url), r.sha256.hex() if r.sha256 else None) for r in records} == {
            (p.name, p.url, p.sha256) for p in expected
        }


async def test_rattler_installs_conda_lock(tmp_path: Path) -> None:
    channel = tmp_path / "channel"
    tool = Package("tool", files={"bin/tool": b"tool"}).conda(channel)
    noarch = Package("words", noarch="generic", files={"share/words": b"words"}).tar_bz2(channel)
    path = tmp_path / "conda-lock.yml"
    path.write_bytes(write_conda_lock(Lock(SPEC, {"linux-64": (tool.record, noarch.record)})))

    lock_file = rattler.LockFile.from_path(path)
    environment = lock_file.default_environment()
    assert environment
    records = environment.conda_repodata_records_for_platform(lock_file.platforms()[0])
    target = tmp_path / "environment"
    await rattler.install(
        records or [], target, cache_dir=tmp_path / "cache", platform=rattler.Subdir("linux-64"), show_progress=False
    )

    assert (target / "bin/tool").read_bytes() == b"tool"
    assert (target / "share/words").read_bytes() == b"words"


def test_dependencies_given_twice() -> None:
    numpy = next(p for p in yaml.safe_load(write_conda_lock(LOCK))["package"] if p["name"] == "numpy")
    assert numpy["dependencies"] == {
        "python": ">=3.12,<3.13.0a0,>=3.9",
        "python_abi": "3.12.* *_cp312",
        "libcxx": ">=16",
    }


def test_conda_lock_needs_md5() -> None:
    lock = Lock(SPEC, {"linux-64": (package("old", md5=None),)})
    with pytest.raises(FormatUnsuitable, match=r"md5.*conda-forge.*old-1\.0-h0_0.*explicit\.txt"):
        write_conda_lock(lock)


def test_explicit_is_read_by_rattler(tmp_path: Path) -> None:
    from rattler.explicit_environment import ExplicitEnvironmentSpec

    path = tmp_path / "explicit.txt"
    path.write_bytes(write_explicit(LOCK, "linux-64"))
    spec = ExplicitEnvironmentSpec.from_path(path)
    assert str(spec.platform) == "linux-64"
    assert [entry.url for entry in spec.packages] == [f"{p.url}#sha256:{p.sha256}" for p in LOCK.packages["linux-64"]]


def test_explicit_hashes_as_conda_reads_them() -> None:
    """conda's own pattern for a line (conda `misc.py`)."""
    pattern = re.compile(
        r"(?P<url>.+)/(?P<fn>[^/#]+)(?:#((?P<md5>[0-9a-f]{32})|((sha256:)?(?P<sha256>[0-9a-f]{64}))))?$"
    )
    with_md5_alone = package("old", sha256=None)
    text = write_explicit(Lock(SPEC, {"linux-64": (*LOCK.packages["linux-64"], with_md5_alone)}), "linux-64").decode()
    matches = [pattern.fullmatch(line) for line in text.splitlines() if line.startswith("https:")]
    assert [m and m["fn"] for m in matches] == [p.file_name for p in (*LOCK.packages["linux-64"], with_md5_alone)]
    assert next(m and m["sha256"] for m in matches) == LOCK.packages["linux-64"][0].sha256
    assert [m and m["md5"] for m in matches][-1] == with_md5_alone.md5


def test_environment_yaml_pins_everything() -> None:
    elsewhere = package("samtools", "1.20", "h5_1", channel="bioconda")
    lock = Lock(SPEC, {"linux-64": (*LOCK.packages["linux-64"], elsewhere)})
    content = write_environment_file(lock, "linux-64")
    assert yaml.safe_load(content) == {
        "name": "numpy-python",
        "channels": ["conda-forge", "bioconda"],
        "dependencies": [
            "ca-certificates=2026.1.1=hbcca054_0",
            "click=8.1.7=pyh1_0",
            "numpy=2.1.0=py312h1_0",
            "python=3.12.8=h1_1_cpython",
            "samtools=1.20=h5_1",
            "tzdata=2026a=h0_0",
        ],
    }
    for line in yaml.safe_load(content)["dependencies"]:
        rattler.MatchSpec(line)
    assert f"lock-{lock.key}" in content.decode()


@given(st.lists(st.from_regex(r"[a-z0-9_][a-z0-9._-]{0,80}", fullmatch=True), max_size=8))
def test_suggested_names(names: list[str]) -> None:
    spec = EnvironmentSpec(items=tuple(PackageItem(name) for name in names), channels=())
    name = suggest_name(spec)
    assert re.fullmatch(r"[a-z0-9._-]{1,60}", name)


def test_time_of_the_newest() -> None:
    assert format_time(find_newest(LOCK.packages["linux-64"])) == "2023-11-14T22:16:40Z"
    assert format_time(find_newest(())) == "1970-01-01T00:00:00Z"


def test_every_format_is_in_the_table_once() -> None:
    assert [each.name for each in FORMATS] == list(FormatName)
    assert len({each.file_name for each in FORMATS}) == len(FORMATS)


def test_one_file_for_all_platforms_is_the_same_for_each() -> None:
    for each in [each for each in FORMATS if each is not PYLOCK]:
        of_platforms = {each.write(TWO_PLATFORMS, platform) for platform in TWO_PLATFORMS.packages}
        assert (len(of_platforms) == 1) is each.all_platforms
