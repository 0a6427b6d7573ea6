"""The keys of versions sort as conda sorts versions."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from builder.policy.versions import compare, parse_version
from builder.search.version_key import make_version_key

IN_ORDER = (
    *("0.4", "0.4.1.rc", "0.4.1", "0.5a1", "0.5b3", "0.5C1", "0.5", "0.9.6", "0.960923"),
    *("1.0", "1.1dev1", "1.1_", "1.1a1", "1.1.0dev1", "1.1.a1", "1.1.0rc1", "1.1.0", "1.1.0post1", "1.1.post1"),
    *("1.1post1", "1996.07.12", "1!0.4.1", "1!3.1.1.6", "2!0.4.1"),
)
"""From the documentation of conda's VersionOrder."""


def key(text: str) -> str:
    return make_version_key(parse_version(text))


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


def check_pair(one: str, other: str) -> None:
    expected = sign(compare(parse_version(one), parse_version(other)))
    found = sign((key(one) > key(other)) - (key(one) < key(other)))
    assert found == expected, f"{one} {other}: {key(one)} {key(other)}"


def test_versions_of_condas_documentation_sort_as_it_says() -> None:
    assert all(key(one) <= key(other) for one, other in pairwise(IN_ORDER))
    for one in IN_ORDER:
        for other in IN_ORDER:
            check_pair(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "1.0"), ("1.0", "1.0.0"), ("1.0a", "1a"), ("1.0+0", "1.0"), ("0!1", "1"), ("1.01", "1.1"), ("1.A", "1.a")],
)
def test_versions_are_compared_as_the_policy_compares_them(one: str, other: str) -> None:
    check_pair(one, other)


def test_any_versions_sort_as_the_policy_compares_them() -> None:
    chance = random.Random(11)
    pieces = ("0", "00", "1", "2", "10", "9" * 80, "a", "b", "rc", "dev", "post", "_", "x")
    joints = (".", ".", "", "_", ".0.", ".0.0.", "0")

    def make() -> str:
        text = chance.choice(("", "", "1!")) + chance.choice(("0", "1", "2", "a"))
        for _ in range(chance.randrange(4)):
            text += chance.choice(joints) + chance.choice(pieces)
        return text + chance.choice(("", "", "+1", "+a.0", "+0", "_"))

    def is_version(text: str) -> bool:
        try:
            parse_version(text)
        except ValueError:
            return False
        return True

    versions = [text for text in (make() for _ in range(20_000)) if is_version(text)]
    assert len(versions) > 10_000
    for one, other in pairwise(versions):
        check_pair(one, other)
