"""Wheels in directories: the same files as in images, hard-linked from the cache."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import PackageRefused
from tests.support.builder.directories import PLATFORM, lock_of, open_directories
from tests.support.builder.packages import Made, Package
from tests.support.wheels.making import Member, Wheel
from tests.support.wheels.trees import WheelFragment, read_tree

SITE = "lib/python3.11/site-packages"
PYTHON = Package(
    name="python",
    version="3.11.7",
    files={"bin/python": b"", f"{SITE}/shared.py": b"of python", "bin/tool": b"of python"},
)
WHEEL = Wheel(
    files={
        "a.py": b"a",
        "shared.py": b"of the wheel",
        "tool.sh": Member(b"#!/bin/sh\n", mode=0o100755),
        "folder/": Member(attributes=0o40755 << 16),
        "sample-1.0.data/scripts/tool": b"#!python\nprint(1)\n",
        "sample-1.0.data/scripts/long": b"#!python\n" + b"# x\n" * 200_000,
        "sample-1.0.data/scripts/plain": b"#!/bin/sh\n",
        "sample-1.0.data/data/share/x": b"x",
    },
    entry_points="[console_scripts]\nsample = sample:main\n",
)


async def test_a_directory_has_the_files_of_the_image(tmp_path: Path) -> None:
    made = WHEEL.write(tmp_path / "wheels")
    wheel = Made(made.path, replace(made.record, url=made.path.as_uri()))
    lock = lock_of([PYTHON.conda(tmp_path / "channel"), wheel])
    async with open_directories(tmp_path) as directories:
        prefix = await directories.make("team", "env", "1", lock, PLATFORM)
        again = await directories.make("team", "env", "2", lock, PLATFORM)
        found = {path: file for path, file in read_tree(prefix).items() if not path.startswith("conda-meta/")}
        expected = WheelFragment(made, tmp_path, str(prefix)).files
    assert found.pop("bin/python").content == b""
    assert {path: file.content for path, file in found.items()} == {
        path: file.content for path, file in expected.items()
    }
    assert {path for path, file in found.items() if file.mode & 0o111} == {
        path for path, file in expected.items() if file.mode == 0o755
    }
    assert (prefix / SITE / "folder").is_dir()
    assert found[f"{SITE}/shared.py"].content == b"of the wheel"
    assert os.path.samefile(prefix / SITE / "a.py", again / SITE / "a.py")
    assert not os.path.samefile(prefix / "bin/tool", again / "bin/tool")
    assert [path.name for path in (prefix / "conda-meta").glob("*.json")] == ["python-3.11.7-0.json"]
    history = (prefix / "conda-meta/history").read_text().splitlines()
    assert [line.rpartition("::")[2] for line in history if line.startswith("+")] == ["python-3.11.7-0"]


async def test_a_wheel_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    lying = Wheel(files={"a.py": b"1", "b.py": b"2"}, record={"b.py": f"sha256={'A' * 43},1"})
    made = lying.write(tmp_path / "wheels")
    wheel = Made(made.path, replace(made.record, url=made.path.as_uri()))
    lock = lock_of([PYTHON.conda(tmp_path / "channel"), wheel])
    async with open_directories(tmp_path) as directories:
        with pytest.raises(PackageRefused, match=r"'b\.py' has the sha256"):
            await directories.make("team", "env", "1", lock, PLATFORM)
    assert not [path for path in (tmp_path / "envs").rglob("*") if path.is_file()]
    assert len(list((tmp_path / "data/packages").iterdir())) <= 1, "the python at most"
