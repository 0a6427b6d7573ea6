"""Packages whose paths are compared, and those whose are not."""

from pathlib import Path
from zlib import crc32

import pytest

from builder.packages import path_marks
from builder.packages.inspection import inspect
from builder.packages.path_marks import PathMarks, find_sharing
from tests.support.builder.packages import PYTHON, Directory, File, Package


def marks(folder: Path, *packages: Package) -> dict[str, PathMarks]:
    made = [package.conda(folder) for package in packages]
    return {
        package.name: PathMarks.of(inspect(each.path, each.record, PYTHON, folder / "contents"))
        for package, each in zip(packages, made, strict=True)
    }


def test_only_packages_with_a_path_in_common_share(tmp_path: Path) -> None:
    found = marks(
        tmp_path,
        Package("a", files={"lib/x": b"", "lib/own": b""}),
        Package("b", files={"lib/x": b"", "lib/y": b""}),
        Package("c", files={"lib/z": b""}),
    )
    assert find_sharing(found) == {"a", "b"}


def test_the_directories_that_packages_have_in_common_are_no_matter(tmp_path: Path) -> None:
    found = marks(tmp_path, Package("a", files={"lib/x": b""}), Package("b", files={"lib/y": b"", "e": Directory()}))
    assert find_sharing(found) == set()


def test_a_file_against_a_directory_is_shared(tmp_path: Path) -> None:
    found = marks(tmp_path, Package("a", files={"lib": b""}), Package("b", files={"lib/y": b""}), Package("c"))
    assert find_sharing(found) == {"a", "b"}


def test_a_command_against_a_file_is_shared(tmp_path: Path) -> None:
    entry = Package("a", noarch="python", entry_points=["tool = a:main"], files={"site-packages/a.py": b""})
    assert find_sharing(marks(tmp_path, entry, Package("b", files={"bin/tool": File(b"")}))) == {"a", "b"}


def test_two_paths_with_one_mark_are_looked_at(tmp_path: Path) -> None:
    # of 32 bits
    assert crc32(b"plumless") == crc32(b"buckeroo")
    assert find_sharing(
        marks(tmp_path, Package("a", files={"plumless": b""}), Package("b", files={"buckeroo": b""}))
    ) == {
        "a",
        "b",
    }


def test_of_more_than_can_be_compared_at_once_all_may_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = marks(tmp_path, Package("a", files={"x": b""}), Package("b", files={"y": b""}))
    assert find_sharing(found) == set()
    monkeypatch.setattr(path_marks, "MOST_COMPARED", 1)
    assert find_sharing(found) == {"a", "b"}


def test_what_is_counted_is_what_is_listed(tmp_path: Path) -> None:
    (of_a,) = marks(tmp_path, Package("a", files={"lib/x": b"", "e": Directory()})).values()
    assert (of_a.paths, of_a.text) == (2, len("lib/x") + len("e"))
