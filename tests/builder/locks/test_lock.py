"""The order of a lock's packages."""

from __future__ import annotations

import random

import pytest

from builder.locks import lock
from builder.locks.lock import MOST_CIRCLES, LockedPackage, order_by_dependency


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
