"""The order of a lock's packages."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from builder.locks import lock
from builder.locks.lock import MOST_CIRCLES, WHEEL_PREFIX, LockedPackage, order_by_dependency
from builder.names.spec import EnvironmentSpec


def package(name: str, *depends: str) -> LockedPackage:
    return LockedPackage(name, "1", "0", 0, "noarch", "c", "u", "f", 1, "0" * 64, None, depends)


def test_dependency_order_does_not_depend_on_the_order_given() -> None:
    packages = [
        package("a", "z >=1", "missing"),
        package("z", "m[build=x]"),
        package("m"),
        package("python", "pip", "m"),
        package("pip", "python >=3"),
        package("x", "c::pip", "y"),
        package("y", "x"),
        package("self", "self"),
    ]
    expected = ["m", "self", "z", "a", "python", "pip", "x", "y"]
    for seed in range(20):
        random.Random(seed).shuffle(packages)
        assert [each.name for each in order_by_dependency(packages)] == expected


def wheel(name: str, *requirements: str) -> LockedPackage:
    return LockedPackage(
        f"{WHEEL_PREFIX}{name}", "1", "py3-none-any", 0, "noarch", "i", "u", "f", 1, "0" * 64, None, requirements
    )


def test_wheels_come_after_what_they_require() -> None:
    packages = [
        wheel("a", "Z.z[extra]>=1; python_version >= '3'", "graphviz"),
        wheel("z-z"),
        wheel("graphviz"),
        package("graphviz"),
        package("python"),
    ]
    names = [each.name for each in order_by_dependency(packages)]
    assert names == ["graphviz", "python", "pypi:graphviz", "pypi:z-z", "pypi:a"]
    assert [str(each) for each in order_by_dependency(packages)][2] == "graphviz-1-py3-none-any"


def test_what_only_wheels_have_leaves_the_keys_of_others_alone() -> None:
    plain = package("a")
    assert "requires_python" not in plain.to_json()
    assert "requires_python" not in plain.identify()
    made = replace(wheel("a"), requires_python=">=3.9")
    assert made.identify()["requires_python"] == ">=3.9"
    assert LockedPackage.from_json(made.to_json()) == made
    spec = EnvironmentSpec((), ("c",))
    assert {"requirements", "indexes"}.isdisjoint(spec.to_json())
    asked = replace(spec, requirements=("requests>=2",), indexes=("https://pypi.org/simple",))
    assert EnvironmentSpec.from_json(asked.to_json()) == asked
    assert asked.key != spec.key


def test_packages_that_all_need_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each choice in a circle looks at all of them, and there are as many choices as packages."""
    followed = 0
    choose = lock._choose_in_circle

    def count(waiting: dict[str, set[str]]) -> str:
        nonlocal followed
        followed += 1
        return choose(waiting)

    monkeypatch.setattr(lock, "_choose_in_circle", count)
    names = [f"p{number:03}" for number in range(3 * MOST_CIRCLES)]
    packages = [package(name, *(each for each in names if each != name)) for name in names]
    assert [each.name for each in order_by_dependency(packages)] == names
    assert followed == MOST_CIRCLES
