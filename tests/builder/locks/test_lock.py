"""The order of a lock's packages."""

from __future__ import annotations

import random

from builder.locks.lock import LockedPackage, order_by_dependency


def test_dependency_order_does_not_depend_on_the_order_given() -> None:
    def package(name: str, *depends: str) -> LockedPackage:
        return LockedPackage(name, "1", "0", 0, "noarch", "c", "u", "f", 1, "0" * 64, None, depends)

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
