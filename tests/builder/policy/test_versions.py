"""Versions are in the order that the solver has them in."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rattler import MatchSpec, PackageRecord
from rattler import Version as SolversVersion
from rattler.package import BuildString

from builder.names.spec import Constraint
from builder.policy.versions import compare, matches, parse_version

ODD = (
    "0", "1", "1.0", "1.0.0", "01.0", "1.1", "1.10", "1.2", "1.0a", "1.0a1", "1.0rc1", "1.0.rc1", "1.0dev", "1.0.dev1",
    "1.0post1", "1.0.post", "1.0_", "1.0_1", "1.0-1", "1!0.5", "0!1.0", "1.0+l", "1.0+l.1", "1.0+1", "2024a", "2024b",
    "1.0.1t", "1.0.1_", "3.0.7", "3.0.7rc2", "9e", "dev", "1.0.0.0.1", "20240101", "1.2.3.post4", "1.2.3+cu118",
)  # fmt: skip
OPERATORS = ("==", "!=", "=", "~=", ">", ">=", "<", "<=")


def solvers_order(first: str, second: str) -> int:
    one, other = SolversVersion(first), SolversVersion(second)
    return -1 if one < other else 1 if one > other else 0


def our_order(first: str, second: str) -> int:
    found = compare(parse_version(first), parse_version(second))
    return (found > 0) - (found < 0)


def test_the_order_is_the_solvers() -> None:
    pairs = list(itertools.product(ODD, repeat=2))
    assert [pair for pair in pairs if our_order(*pair) != solvers_order(*pair)] == []


def does_the_solver_take(version: str, constraint: Constraint) -> bool:
    record = PackageRecord("a", version, BuildString("0"), 0, "linux-64")
    return record.matches(MatchSpec(f'a[version="{constraint}"]', strict=False))


def is_prefix(text: str, operator: str) -> bool:
    """Whether nobody disagrees about what begins with `text`: more zeros than a version has, or a local part."""
    return not text.startswith("1.0.0") and (operator == "=" or ("." in text and "+" not in text))


@pytest.mark.parametrize("operator", OPERATORS)
def test_ranges_are_the_solvers(operator: str) -> None:
    wanted = [each for each in ODD if operator not in ("=", "~=") or is_prefix(each, operator)]
    different = [
        (version, str(constraint))
        for version in ODD
        for constraint in (Constraint(operator, each) for each in wanted)
        if matches(version, [constraint]) != does_the_solver_take(version, constraint)
    ]
    assert different == []


SEGMENT = st.from_regex(r"[0-9]{1,3}((a|rc|post|dev|b)[0-9]{0,2})?", fullmatch=True)
VERSION = st.builds(
    lambda epoch, parts, local: epoch + ".".join(parts) + local,
    st.sampled_from(["", "1!"]),
    st.lists(SEGMENT, min_size=1, max_size=4),
    st.sampled_from(["", "+1", "+cu118"]),
)


@given(VERSION, VERSION, st.sampled_from([each for each in OPERATORS if each not in ("=", "~=")]))
def test_any_two_versions(first: str, second: str, operator: str) -> None:
    assert our_order(first, second) == solvers_order(first, second)
    constraint = Constraint(operator, second)
    assert matches(first, [constraint]) == does_the_solver_take(first, constraint)


@pytest.mark.parametrize("text", ["", "1..2", "x!1", "1" * 501, "1.", "!1", "+"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match=r"version|epoch|part"):
        parse_version(text)
