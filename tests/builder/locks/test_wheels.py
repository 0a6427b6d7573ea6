"""Wheels in every format of a lock, as other people's tools read them."""

from __future__ import annotations

import dataclasses
import tomllib
import warnings
from pathlib import Path

import pytest
import rattler
import yaml
from packaging.pylock import Pylock

from builder.artifacts.cyclonedx import write_cyclonedx
from builder.artifacts.materials import list_materials
from builder.artifacts.spdx import write_spdx
from builder.errors import FormatUnsuitable
from builder.layers.plan import PackageKind, PlanPackage, plan
from builder.layers.popularity import Popularity
from builder.locks.formats import write_conda_lock, write_environment_file, write_explicit
from builder.locks.lock import WHEEL_PREFIX, Lock
from builder.locks.pixi_lock import write_pixi_lock
from builder.locks.pylock import write_pylock
from tests.support.builder.locks import ASKED, INDEX, LOCK, MIXED, WHEELS, wheel

with warnings.catch_warnings():
    # conda-lock and its own copy of conda use what is deprecated when they are imported
    warnings.simplefilter("ignore")
    from conda_lock.lockfile import parse_conda_lock_file
    from conda_lock.lockfile.v1.models import Lockfile

CONDA = LOCK.packages["linux-64"]


def test_conda_lock_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_bytes(write_conda_lock(MIXED))
    document = yaml.safe_load(path.read_bytes())
    assert Lockfile.model_validate(document).dict_for_output() == document
    read = {(found.manager, found.name): found for found in parse_conda_lock_file(path).package}
    assert {name for manager, name in read if manager == "pip"} == {"requests", "charset-normalizer"}
    requests = read["pip", "requests"]
    assert (requests.version, requests.url, requests.hash.sha256) == ("2.32.3", WHEELS[1].url, WHEELS[1].sha256)
    assert requests.dependencies == {"charset-normalizer": "<4,>=2", "tomli": "*"}
    assert len(read) == len(CONDA) + 2


def test_rattler_reads_them_from_a_pixi_lock(tmp_path: Path) -> None:
    path = tmp_path / "pixi.lock"
    path.write_bytes(write_pixi_lock(MIXED))
    environment = rattler.LockFile.from_path(path).default_environment()
    assert environment is not None
    (platform,) = environment.platforms()
    found = {each.name: each for each in environment.pypi_packages_for_platform(platform) or ()}
    assert found.keys() == {"requests", "charset-normalizer"}
    requests = found["requests"]
    assert (requests.version, requests.location) == ("2.32.3", WHEELS[1].url)
    assert requests.hashes is not None
    assert requests.hashes.sha256 == bytes.fromhex(WHEELS[1].sha256 or "")
    assert len(requests.requires_dist) == 3
    assert requests.requires_python == ">=3.9"
    records = environment.conda_repodata_records_for_platform(platform) or []
    assert {record.name.normalized for record in records} == {package.name for package in CONDA}


def test_packaging_reads_them_from_a_pylock() -> None:
    document = tomllib.loads(write_pylock(MIXED, "linux-64").decode())
    read = Pylock.from_dict(document)
    assert [(each.name, str(each.version)) for each in read.packages] == [
        ("charset-normalizer", "3.4.0"),
        ("requests", "2.32.3"),
    ]
    (found,) = read.packages[1].wheels or ()
    assert (found.url, found.hashes, found.size) == (WHEELS[1].url, {"sha256": WHEELS[1].sha256}, 12_345)
    assert str(read.requires_python) == "==3.12.*"
    with pytest.raises(FormatUnsuitable, match="has none"):
        write_pylock(LOCK, "linux-64")


def test_an_environment_file_has_them_in_its_pip_part() -> None:
    dependencies = yaml.safe_load(write_environment_file(MIXED, "linux-64"))["dependencies"]
    assert dependencies[-1] == {"pip": ["charset-normalizer==3.4.0", "requests==2.32.3"]}
    assert len(dependencies) == len(CONDA) + 1
    indexed = Lock(dataclasses.replace(ASKED, indexes=("https://own.example.org/simple", INDEX)), dict(MIXED.packages))
    (*_, part) = yaml.safe_load(write_environment_file(indexed, "linux-64"))["dependencies"]
    assert part["pip"][:2] == [f"--index-url {INDEX}", "--extra-index-url https://own.example.org/simple"]


def test_an_explicit_list_says_what_it_leaves_out() -> None:
    lines = write_explicit(MIXED, "linux-64").decode().splitlines()
    assert [line for line in lines if line.startswith("http")] == [
        line for line in write_explicit(LOCK, "linux-64").decode().splitlines() if line.startswith("http")
    ]
    assert f"# requests @ {WHEELS[1].url}#sha256={WHEELS[1].sha256}" in lines
    assert any("conda packages only" in line for line in lines)


def test_bills_of_materials_name_them_by_purl() -> None:
    purls = {each.package.title: each for each in list_materials(MIXED) if each.package.is_wheel}
    assert purls["requests"].purl == "pkg:pypi/requests@2.32.3?file_name=requests-2.32.3-py3-none-any.whl"
    python = next(package.url for package in CONDA if package.name == "python")
    assert set(purls["requests"].needs) == {python, WHEELS[0].url}
    for write in (write_spdx, write_cyclonedx):
        text = write(MIXED).decode()
        assert purls["requests"].purl in text
        assert WHEEL_PREFIX + "requests" not in text


def test_they_are_planned_like_conda_packages_of_their_name() -> None:
    kinds = {package.title: PlanPackage.of(package).kind for package in WHEELS}
    assert kinds == {"charset-normalizer": PackageKind.PYTHON_ABI, "requests": PackageKind.NOARCH_PYTHON}
    popularity = Popularity.load_shipped()
    numpy = wheel("numpy", "2.0.0", "cp312-cp312-manylinux_2_17_x86_64", size=18_000_000)
    planned = plan([*map(PlanPackage.of, (*WHEELS, numpy))], popularity)
    assert (f"{WHEEL_PREFIX}numpy",) in planned.layers
