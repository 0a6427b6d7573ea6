"""Wheels beside conda packages: in an image and its report, in an archive, in the plan of layers."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from builder.artifacts.artifact import ARCHIVE, make_artifact
from builder.environments.previews import Previews
from builder.errors import PackageRefused, PathConflict
from builder.layers.plan import PackageKind, PlanPackage
from builder.locks.lock import Lock, LockedPackage
from builder.packages.inspection import inspect
from builder.packages.overlap import find_overlaps
from builder.progress import show_nothing
from builder.service import BuilderService
from builder.work.stopwatch import Stopwatch
from tests.support.builder.packages import PYTHON as LAYOUT
from tests.support.builder.packages import Made, Package
from tests.support.builder.services import make_channel, manifest_of, open_service, spec_of
from tests.support.wheels.making import MadeWheel, Wheel
from tests.support.wheels.trees import WheelFragment

PLATFORM = "linux-64"
SITE = "lib/python3.11/site-packages"
PYTHON = Package("python", "3.11.7", files={"bin/python": b"#!", f"{SITE}/shared.py": b"python", "bin/tool": b"python"})
FIRST = Wheel(
    "first",
    files={"first.py": b"1", "shared.py": b"first", "both.py": b"first", "plain.py": b"x", "nowhere.txt": b""},
    entry_points="[console_scripts]\nfirst = first:main\n",
)
SECOND = Wheel(
    "second",
    files={"second.py": b"2", "both.py": b"second", "second-1.0.data/scripts/tool": b"#!python\n"},
)


async def lock_with(service: BuilderService, folder: Path, *wheels: Wheel) -> tuple[Lock, list[MadeWheel]]:
    """Lock python, and after it wheels that were downloaded already, each needing the one before it."""
    lock = await service.lock(spec_of(service, "python"))
    records: list[LockedPackage] = []
    made = [wheel.write(folder / "wheels") for wheel in wheels]
    for each in made:
        url = f"https://files.pythonhosted.org/{each.path.name}"
        records.append(replace(each.record, url=url, depends=tuple(record.title for record in records[-1:])))
        downloaded = service.builder.downloader._path_of(records[-1])
        downloaded.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(each.path, downloaded)
    return Lock(lock.spec, {PLATFORM: (*lock.packages[PLATFORM], *records)}), made


async def test_an_image_has_python_and_wheels_and_says_who_won(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [PYTHON])
    async with open_service(tmp_path / "data", channel) as service:
        lock, made = await lock_with(service, tmp_path, FIRST, SECOND)
        key, image = await service.builder._image_and_key(lock, show_nothing, Stopwatch())
        manifest = await manifest_of(service, image)
        blobs = [await service.builder.blobs.content(layer["digest"]) for layer in manifest["layers"]]
        document = await service.builder.catalog.images.find(key)
        # previews say what is there already, without reading anything; of what loses no path
        expected_key = Previews._key_of(lock.packages[PLATFORM][-1], lock.spec.prefix, LAYOUT)
        assert service.builder.data.fragment(expected_key).exists()
    files = read_layers(blobs)
    expected: dict[str, bytes] = {}
    for each in made:
        expected |= {path: file.content for path, file in WheelFragment(each, tmp_path / "alone").files.items()}
    found = {path: content for path, content in files.items() if path.startswith(("lib/", "bin/"))}
    assert found == expected | {"bin/python": b"#!"}
    assert [path for path in files if path.startswith("conda-meta/") and path.endswith(".json")] == [
        "conda-meta/python-3.11.7-0.json"
    ]
    assert document is not None
    (report,) = document["report"]["platforms"].values()
    assert [(row["path"], row["winner"], row["losers"]) for row in report["overlaps"]] == [
        ("bin/tool", "second-1.0-py3-none-any", ["python-3.11.7-0"]),
        (f"{SITE}/both.py", "second-1.0-py3-none-any", ["first-1.0-py3-none-any"]),
        (f"{SITE}/shared.py", "first-1.0-py3-none-any", ["python-3.11.7-0"]),
    ]


def read_layers(blobs: list[bytes]) -> dict[str, bytes]:
    """Return the files below the prefix; no path may be in two layers."""
    files: dict[str, bytes] = {}
    for blob in blobs:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content:
                    path = member.name.removeprefix("opt/conda/")
                    assert path not in files
                    files[path] = content.read()
    return files


async def test_an_archive_has_wheels_that_run_anywhere(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [PYTHON])
    async with open_service(tmp_path / "data", channel) as service:
        lock, _ = await lock_with(service, tmp_path, FIRST, SECOND)
        async with service.builder._take_turn_to_pack(lock, ARCHIVE) as pack:
            artifact = await make_artifact(
                ARCHIVE, lock, blobs=service.builder.blobs, layers=service.builder.layers.store, pack=pack
            )
        files = read_layers([await service.builder.blobs.content(artifact.digest)])
    assert files["bin/first"].startswith(b"#!/usr/bin/env python\n")
    assert files["bin/tool"] == b"#!/usr/bin/env python\n"
    assert files[f"{SITE}/both.py"] == b"second"
    assert b"first" not in files["bin/conda-unpack"]
    assert [path for path in files if path.startswith("conda-meta/") and path.endswith(".json")] == [
        "conda-meta/python-3.11.7-0.json"
    ]


def test_a_file_of_a_wheel_where_another_package_has_a_directory(tmp_path: Path) -> None:
    python = replace(PYTHON, files=dict(PYTHON.files) | {"share/folder/x": b""}).conda(tmp_path)
    for files in ({"first-1.0.data/data/share/folder": b""}, {"shared.py/x": b""}):
        wheel = Wheel("first", files=files).write(tmp_path / "wheels")
        pairs = [
            (each.record, inspect(each.path, each.record, LAYOUT, tmp_path / "contents")) for each in (python, wheel)
        ]
        with pytest.raises(PathConflict):
            find_overlaps(pairs)


def test_a_zip_that_is_also_a_conda_package_is_read_as_what_the_lock_says(tmp_path: Path) -> None:
    made = FIRST.write(tmp_path)
    wheel = inspect(made.path, made.record, LAYOUT, tmp_path / "contents")
    assert wheel.wheel is not None
    conda = Made(made.path, replace(made.record, name="first", file_name="first-1.0-0.conda"))
    with pytest.raises(PackageRefused, match="members info-"):
        inspect(conda.path, conda.record, LAYOUT, tmp_path / "contents")


def test_wheels_are_planned_by_the_table_of_conda_packages() -> None:
    record = LockedPackage("pypi:numpy", "2.0", "py3-none-any", 0, "noarch", "", "", "", 5, "0" * 64, None)
    assert PlanPackage.of(record) == PlanPackage("pypi:numpy", 5, PackageKind.NOARCH_PYTHON)
    for tags in ("cp311-cp311-manylinux_2_17_x86_64", "py3-none-manylinux2014_x86_64", "1-cp39-abi3-linux_x86_64"):
        assert PlanPackage.of(replace(record, build=tags)).kind is PackageKind.PYTHON_ABI
