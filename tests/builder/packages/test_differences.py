"""Archives that are not what their own listing says: told in the report, and recorded as they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from builder.base.prefix_path import find_prefix_problem
from builder.image.report import bound_differences
from builder.layers.fragment import FragmentInfo, FragmentRecipe, read_info, read_paths
from builder.layers.transcoding import transcode
from builder.packages.differences import LINES
from builder.packages.inspection import inspect
from tests.support.builder.packages import PLACEHOLDER, Entry, File, Link, Package

FILES: dict[str, Entry] = {
    "share/size": File(b"abc"),
    "share/file": File(b"abc"),
    "share/link": Link("size"),
    "share/patched": File(PLACEHOLDER.encode(), placeholder="text"),
    "share/true": File(b"true"),
    "share/big": File(b"x" * 300_000),
}


def changed(rows: dict[str, dict[str, Any]]) -> Package:
    """A package whose paths.json has other values than its archive."""
    document = Package(files=FILES).paths_json()
    document["paths"] = [row | rows.get(row["_path"], {}) for row in document["paths"]]
    return Package(files=FILES, info={"paths.json": json.dumps(document).encode()})


def transcoded(package: Package, tmp_path: Path, kind: str = "conda") -> tuple[FragmentInfo, dict[str, Any]]:
    made = getattr(package, kind)(tmp_path / "channel")
    contents = inspect(made.path, made.record, None, tmp_path / "contents")
    recipe = FragmentRecipe.of(made.record.archive_key, contents, "/opt/conda")
    path = tmp_path / "fragments" / "ab" / recipe.key
    info = transcode(recipe, contents, made.path, path, hashlib.sha256(), hashlib.sha256())
    assert read_info(path) == info
    entries = json.loads(b"".join(read_paths(path).pieces()))["paths_data"]["paths"]
    return info, {entry["_path"]: entry for entry in entries}


@pytest.mark.parametrize("kind", ["conda", "tar_bz2"])
def test_an_honest_package_has_none(tmp_path: Path, kind: str) -> None:
    info, entries = transcoded(Package(files=FILES), tmp_path, kind)
    assert info.differences == ()
    assert entries["share/true"]["sha256"] == hashlib.sha256(b"true").hexdigest()
    assert "sha256_in_prefix" not in entries["share/true"], "nothing has computed it"
    assert entries["share/patched"]["sha256_in_prefix"] == hashlib.sha256(b"/opt/conda").hexdigest()


@pytest.mark.parametrize("kind", ["conda", "tar_bz2"])
def test_each_difference_is_told_and_recorded(tmp_path: Path, kind: str) -> None:
    package = changed(
        {
            "share/size": {"size_in_bytes": 77},
            "share/big": {"size_in_bytes": 5},
            "share/file": {"path_type": "softlink"},
            "share/link": {"path_type": "hardlink"},
            "share/patched": {"sha256": "1" * 64},
        }
    )
    info, entries = transcoded(package, tmp_path, kind)
    packed = hashlib.sha256(PLACEHOLDER.encode()).hexdigest()
    assert sorted(info.differences) == [
        "share/big has 300000 bytes, listed with 5",
        "share/file is a file, listed as a symbolic link",
        "share/link is a symbolic link, listed as a file",
        f"share/patched has the sha256 {packed}, listed with {'1' * 64}",
        "share/size has 3 bytes, listed with 77",
    ]
    assert entries["share/size"] == {"_path": "share/size", "path_type": "hardlink", "size_in_bytes": 3}
    assert entries["share/file"] == {"_path": "share/file", "path_type": "hardlink", "size_in_bytes": 3}
    assert entries["share/link"] == {"_path": "share/link", "path_type": "softlink"}
    assert entries["share/patched"]["sha256"] == packed


def test_only_some_are_told_one_by_one(tmp_path: Path) -> None:
    files = {f"share/{number}": b"x" for number in range(LINES + 7)}
    document = Package(files=files).paths_json()
    for row in document["paths"]:
        row["size_in_bytes"] = 2
    info, _ = transcoded(Package(files=files, info={"paths.json": json.dumps(document).encode()}), tmp_path)
    assert len(info.differences) == LINES + 1
    assert info.differences[-1] == "and 7 more paths are not as listed"


@pytest.mark.parametrize(
    "prefix", ["", "/", "opt/conda", "/opt/conda/", "/opt//conda", "/opt/../etc", "/opt/./x", "/opt/my env", "/a:b",
               "/opt/.wh.x", "/proc", "/dev/x", "/sys/a", "/opt/a\nb"],
)  # fmt: skip
def test_prefixes_that_cannot_be(prefix: str) -> None:
    assert "/opt/conda" in (find_prefix_problem(prefix) or "")


@pytest.mark.parametrize("prefix", ["/opt/conda", "/usr/local", "/device", "/opt/ünï"])
def test_prefixes_that_can(prefix: str) -> None:
    assert find_prefix_problem(prefix) is None


def test_the_report_of_an_image_is_bounded_whatever_its_packages_are() -> None:
    lines = [f"{'p' * 1024} has {number} bytes, listed with 1" for number in range(50)]
    told = bound_differences([(f"package {number}", lines) for number in range(300)] + [("honest", ())])
    assert len(told) == 300, "each that differs is named"
    assert told["package 9"][-1].endswith("p has 49 bytes, listed with 1")
    assert told["package 10"] == ["and 50 more lines, not shown"]
    assert len(json.dumps(told)) < 250_000
    few = [("a", ["x is a file, listed as a symbolic link"])]
    assert bound_differences(few) == {"a": few[0][1]}
