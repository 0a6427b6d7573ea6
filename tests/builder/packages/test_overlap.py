"""Who wins a path, against rattler itself."""

from pathlib import Path

import pytest
import rattler
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import PathConflict
from builder.locks.lock import LockedPackage
from builder.packages.contents import PackageContents
from builder.packages.inspection import inspect
from builder.packages.overlap import IN_CYCLES, Overlap, _find_cycles, find_overlaps, order_for_installation
from tests.support.builder.packages import PYTHON, Directory, Link, Made, Package, install


def inspected(*packages: Package, folder: Path) -> list[tuple[Made, PackageContents]]:
    made = [package.conda(folder) for package in packages]
    return [(each, inspect(each.path, each.record, PYTHON, folder / "contents")) for each in made]


def records(pairs: list[tuple[Made, PackageContents]]) -> list[tuple[LockedPackage, PackageContents]]:
    return [(made.record, contents) for made, contents in pairs]


def test_losers_leave_the_path_out_and_are_reported(tmp_path: Path) -> None:
    pairs = inspected(
        Package("a", files={"x": b"a", "own": b""}),
        Package("b", files={"x": b"b", "y": b"b"}, depends=["a >=1"]),
        Package("c", files={"x": b"c", "y": b"c"}),
        folder=tmp_path,
    )
    overlaps = find_overlaps(records(pairs))
    assert overlaps.excluded == {"a": ("x",), "c": ("x", "y")}
    assert overlaps.rows == (
        Overlap("x", "b-1.0-0", ("a-1.0-0", "c-1.0-0")),
        Overlap("y", "b-1.0-0", ("c-1.0-0",)),
    )
    assert find_overlaps(records(pairs[::-1])) == overlaps


def test_wheels_are_installed_after_all_conda_packages() -> None:
    def record(name: str, *depends: str) -> LockedPackage:
        return LockedPackage(name, "1", "0", 0, "noarch", "c", "u", "f", 1, "0" * 64, None, depends)

    packages = [record("pypi:b"), record("pypi:a", "b>=1"), record("zlib"), record("a", "zlib"), record("python")]
    for given_ in (packages, packages[::-1]):
        assert order_for_installation(given_) == ["python", "zlib", "a", "pypi:b", "pypi:a"]


async def test_the_winners_are_those_of_rattler(tmp_path: Path) -> None:
    shared = {f"shared/{number}": b"" for number in range(6)}

    def package(name: str, numbers: list[int], depends: list[str], noarch: str | None = None) -> Package:
        return Package(name, files={f"shared/{n}": name.encode() for n in numbers}, depends=depends, noarch=noarch)

    pairs = inspected(
        package("alpha", [0, 1, 2], ["zeta"]),
        package("beta", [0, 3, 4, 5], []),
        package("gamma", [1, 3, 5], ["alpha", "cycle-b"]),
        package("zeta", [2, 4, 5], []),
        package("cycle-a", [0, 5], ["cycle-b"], "generic"),
        package("cycle-b", [4, 5], ["cycle-a"]),
        folder=tmp_path,
    )
    target = await install([made for made, _ in pairs], tmp_path / "installed", str(tmp_path / "installed"))
    excluded = find_overlaps(records(pairs)).excluded
    winners = {
        path: made.record.name
        for made, contents in pairs
        for path in contents.targets
        if path not in excluded.get(made.record.name, ())
    }
    assert winners == {path: (target / path).read_text() for path in shared}


_names = [f"p{number}" for number in range(7)]


@given(
    st.dictionaries(
        st.sampled_from(_names),
        st.tuples(st.lists(st.sampled_from([*_names, "__glibc"]), max_size=3, unique=True), st.booleans()),
    )
)
def test_the_order_is_that_of_rattler(graph: dict[str, tuple[list[str], bool]]) -> None:
    locked, theirs = [], []
    for name, (names, noarch) in graph.items():
        depends = [f"{each} >=1" for each in names]
        kind = "generic" if noarch else None
        locked.append(
            LockedPackage(name, "1", "0", 0, "noarch", "c", "u", "f", 1, "0" * 64, None, tuple(depends), noarch=kind)
        )
        theirs.append(
            rattler.PackageRecord(
                name,
                "1",
                rattler.BuildString("0"),
                0,
                "noarch",
                depends=depends,
                noarch=kind,  # type: ignore[arg-type]  # one of its literals
            )
        )
    expected = [record.name.normalized for record in rattler.PackageRecord.sort_topologically(theirs)]
    assert order_for_installation(locked) == expected


@pytest.mark.parametrize("one", [{"lib": b""}, {"lib": Link("lib64")}])
@pytest.mark.parametrize("other", [{"lib/x": b""}, {"lib": Directory()}])
def test_a_file_against_a_directory_is_an_error(
    tmp_path: Path, one: dict[str, bytes | Link], other: dict[str, bytes | Directory]
) -> None:
    pairs = inspected(Package("a", files=one), Package("b", files=other), folder=tmp_path)
    with pytest.raises(PathConflict, match="lib is a file in one and a directory in another") as caught:
        find_overlaps(records(pairs))
    assert caught.value.packages == ("a-1.0-0", "b-1.0-0")


def test_directories_and_entry_points(tmp_path: Path) -> None:
    pairs = inspected(
        Package("a", files={"d": Directory(), "bin/tool": b""}),
        Package("b", files={"d": Directory()}, noarch="python", entry_points=["tool = b:main"], depends=["a"]),
        folder=tmp_path,
    )
    assert find_overlaps(records(pairs)).excluded == {"a": ("bin/tool",)}


def test_packages_that_all_need_each_other_have_few_cycles() -> None:
    """They have eighty thousand, with ten million packages in all."""
    names = [f"p{number:03}" for number in range(400)]
    cycles = _find_cycles({name: [each for each in names if each != name] for name in names})
    assert IN_CYCLES <= sum(map(len, cycles)) < IN_CYCLES + len(names)


def test_what_overlaps_nowhere_costs_nothing(tmp_path: Path) -> None:
    pairs = inspected(Package("a", files={"x": b""}), Package("b", files={"y": b""}), folder=tmp_path)
    overlaps = find_overlaps(records(pairs))
    assert (overlaps.excluded, overlaps.rows) == ({}, ())
