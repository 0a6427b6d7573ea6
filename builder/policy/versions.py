"""Versions of conda packages in order, and whether one is in a range (conda's `VersionOrder`, CEP 29).

rattler has the same order, but only its own processes load it: what is served from storage is compared here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

from builder.names.spec import Constraint

_RUN = re.compile(r"[0-9]+|[^0-9]+")
_LONGEST = 500
"""Characters of a version. Real ones have below 60."""

Part = tuple[int, float, str]
"""A run of digits or of other characters, so that tuples are in conda's order: text before numbers, `post` last."""

_ZERO: Part = (1, 0, "")
_NOTHING: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """Segments of the release, the epoch first, and of the local part."""

    release: tuple[tuple[Part, ...], ...]
    local: tuple[tuple[Part, ...], ...] = ()


@lru_cache(maxsize=1 << 14)
def parse_version(text: str) -> Version:
    """Raises ValueError for what is no version."""
    text = text.strip().lower()
    if not text or len(text) > _LONGEST:
        raise ValueError(f"{text[:_LONGEST]!r} is not a version")
    epoch, mark, rest = text.rpartition("!")
    release, _, local = rest.partition("+")
    if mark and not epoch.isdecimal():
        raise ValueError(f"{epoch!r} is not an epoch")
    return Version((((1, int(epoch or 0), ""),), *_split(release)), tuple(_split(local)) if local else ())


def _split(text: str) -> Iterable[tuple[Part, ...]]:
    # an underscore at the end is part of the last segment, as in openssl's 1.0.1_
    body = text.rstrip("_-")
    segments = re.split(r"[._-]", body)
    segments[-1] += "_" if len(body) < len(text) else ""
    for segment in segments:
        runs = [_make_part(run) for run in _RUN.findall(segment)]
        if not runs:
            raise ValueError(f"{text!r} has an empty part")
        yield tuple(runs if segment[0].isdigit() else [_ZERO, *runs])


def _make_part(run: str) -> Part:
    if run.isdigit():
        return (1, int(run), "")
    if run == "post":
        return (1, float("inf"), "")
    # before every other word
    return (0, 0, "DEV" if run == "dev" else run)


def compare(first: Version, second: Version) -> int:
    """Negative, zero or positive."""
    for ours, theirs in ((first.release, second.release), (first.local, second.local)):
        if difference := _compare_segments(ours, theirs):
            return difference
    return 0


def _compare_segments(first: Sequence[tuple[Part, ...]], second: Sequence[tuple[Part, ...]]) -> int:
    for ours, theirs in zip_longest(first, second, fillvalue=_NOTHING):
        for one, other in zip_longest(ours, theirs, fillvalue=_ZERO):
            if one != other:
                return -1 if one < other else 1
    return 0


def _begins_with(version: Version, prefix: Version) -> bool:
    """Whether `version` is one of `prefix.*`."""
    if prefix.local:
        if _compare_segments(version.release, prefix.release):
            return False
        ours, theirs = version.local, prefix.local
    else:
        ours, theirs = version.release, prefix.release
    last = len(theirs) - 1
    if _compare_segments(ours[:last], theirs[:last]):
        return False
    segment = ours[last] if last < len(ours) else _NOTHING
    *before, end = theirs[last]
    if _compare_segments([segment[: len(before)]], [tuple(before)]):
        return False
    found = segment[len(before)] if len(before) < len(segment) else _ZERO
    return found == end


def matches(version: str, constraints: Iterable[Constraint]) -> bool:
    """Whether `version` satisfies all `constraints`; raises ValueError for what cannot be compared."""
    parsed = parse_version(version)
    return all(_satisfies(parsed, each) for each in constraints)


def _satisfies(version: Version, constraint: Constraint) -> bool:
    text = constraint.version
    wanted = parse_version(text.removesuffix(".*"))
    match constraint.operator:
        case "==":
            return compare(version, wanted) == 0
        case "!=":
            return not (_begins_with(version, wanted) if text.endswith(".*") else compare(version, wanted) == 0)
        case "=":
            return _begins_with(version, wanted)
        case "~=":
            return compare(version, wanted) >= 0 and _begins_with(version, _shorten(wanted))
        case ">":
            return compare(version, wanted) > 0
        case ">=":
            return compare(version, wanted) >= 0
        case "<":
            return compare(version, wanted) < 0
        case "<=":
            return compare(version, wanted) <= 0
    raise ValueError(f"{constraint.operator!r} is not an operator")


def _shorten(version: Version) -> Version:
    """Without the last segment of the release."""
    return Version(version.release[:-1]) if len(version.release) > 2 else version
