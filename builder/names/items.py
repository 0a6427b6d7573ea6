"""Parses one item of an image name, and writes a package item as one.

numpy  scipy.gt.1.0  python.ge.3.10.lt.3.13  pytorch.build.cuda  bioconda__samtools  pypi__requests.ge.2
channel.bioconda  platform.linux-aarch64  cuda.12.4  shell
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from packaging.requirements import InvalidRequirement

from builder.errors import InvalidImageName
from builder.names.match_spec import is_version, parse_match_spec
from builder.names.requirement import PYPI, make_requirement, read_constraints, read_name
from builder.names.spec import Constraint, PackageItem, match_within, merge_items
from storage.oci import REPOSITORY_PART
from storage.suggestions import find_near

OPERATORS = {
    "gt": ">",
    "ge": ">=",
    "gte": ">=",
    "lt": "<",
    "le": "<=",
    "lte": "<=",
    "eq": "==",
    "ne": "!=",
    "like": "=",
    "compat": "~=",
}
_WORDS = {operator: word for word, operator in reversed(OPERATORS.items())}
BUILD_OPERATOR = "build"

IMAGE_PLATFORMS = (
    "linux-32",
    "linux-64",
    "linux-aarch64",
    "linux-armv6l",
    "linux-armv7l",
    "linux-ppc64le",
    "linux-riscv64",
    "linux-s390x",
)
"""The conda subdirs for which images can be made."""
OTHER_PLATFORMS = (
    "emscripten-wasm32",
    "freebsd-64",
    "noarch",
    "osx-64",
    "osx-arm64",
    "wasi-wasm32",
    "win-32",
    "win-64",
    "win-arm64",
    "zos-z",
)

_CUDA = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_BUILD = re.compile(r"[a-z0-9_.-]+")
_SYMBOLS = re.compile(r"\.([<>=!~]+)\.?")
"""An operator of match specs, after a dot in an item."""

_KEYWORDS = ("channel", "platform", "cuda", "spec")
_MEANT_OPERATORS = {
    "equal": "eq",
    "equals": "eq",
    "is": "eq",
    "version": "eq",
    "ver": "eq",
    "v": "eq",
    "neq": "ne",
    "not": "ne",
    "gr": "gt",
    "greater": "gt",
    "above": "gt",
    "more": "gt",
    "geq": "ge",
    "from": "ge",
    "min": "ge",
    "since": "ge",
    "less": "lt",
    "below": "lt",
    "leq": "le",
    "max": "le",
    "compatible": "compat",
}
_MEANT_PLATFORMS = {
    "amd64": "linux-64",
    "linux": "linux-64",
    "linux-amd64": "linux-64",
    "linux-x86_64": "linux-64",
    "x86_64": "linux-64",
    "aarch64": "linux-aarch64",
    "arm64": "linux-aarch64",
    "linux-arm64": "linux-aarch64",
    "arm": "linux-armv7l",
    "ppc64le": "linux-ppc64le",
    "s390x": "linux-s390x",
}


@dataclass(frozen=True)
class Channel:
    name: str


@dataclass(frozen=True)
class Platform:
    name: str


@dataclass(frozen=True)
class Cuda:
    version: str


@dataclass(frozen=True)
class Pypi:
    """A package of PyPI."""

    requirement: str
    """PEP 508, in canonical form."""


Wish = PackageItem | Channel | Platform | Cuda | Pypi


def parse_items(item: str, shell_packages: Sequence[str]) -> list[Wish]:
    """Parse one item. Only `shell` requests several packages."""
    if item.split(".")[0] == "shell":
        if item != "shell":
            raise InvalidImageName(item, "shell stands for several packages and takes no value", "shell")
        return [PackageItem(name) for name in shell_packages]
    value = item.partition(".")[2]
    match find_keyword(item):
        case "channel":
            return [Channel(value)]
        case "platform":
            return [Platform(_parse_platform(item, value))]
        case "cuda":
            if not _CUDA.fullmatch(value):
                raise InvalidImageName(item, "cuda takes a version such as cuda.12.4")
            return [Cuda(value)]
        case "spec":
            raise InvalidImageName(item, "a stored spec is an image name of its own and cannot be part of another")
    return [*_parse_packages(item)]


def find_keyword(item: str) -> str | None:
    """Return `channel`, `platform`, `cuda` or `spec` if the item is one.

    Alone or before an operator, these are packages.
    """
    word, *values = item.split(".")
    is_package = not values or _is_operator(values[0])
    return word if word in _KEYWORDS and not is_package else None


def _is_operator(part: str) -> bool:
    return part in OPERATORS or part == BUILD_OPERATOR


def _parse_platform(item: str, name: str) -> str:
    if name in IMAGE_PLATFORMS:
        return name
    if name in OTHER_PLATFORMS:
        raise InvalidImageName(item, f"images are made for Linux only: {', '.join(IMAGE_PLATFORMS)}")
    close = [_MEANT_PLATFORMS[name]] if name in _MEANT_PLATFORMS else find_near(name, IMAGE_PLATFORMS, most=3)
    meant = " or ".join(f"platform.{platform}" for platform in close) or None
    raise InvalidImageName(item, f"unknown platform; the platforms are {', '.join(IMAGE_PLATFORMS)}", meant)


def _parse_packages(item: str) -> Sequence[Wish]:
    """Parse `[channel__]name[.operator.value]...` into one package, plus one for every further build string."""
    parts = item.split(".")
    ends = [*(index for index, part in enumerate(parts) if index and _is_operator(part)), len(parts)]
    channel, name = _split_channel(item, parts[: ends[0]])
    if channel == PYPI:
        return [_parse_requirement(item, name, parts, ends)]
    asked = [PackageItem(name, channel)]
    for start, end in pairwise(ends):
        operator, values = parts[start], parts[start + 1 : end]
        if not values:
            raise InvalidImageName(item, f"operator {operator} has no {_take_operand(operator)}")
        if operator == BUILD_OPERATOR:
            asked.append(PackageItem(name, channel, build=match_within(_parse_build(item, ".".join(values)))))
        else:
            asked.append(PackageItem(name, channel, (Constraint(OPERATORS[operator], _parse_version(item, values)),)))
    return merge_items(asked)


def _parse_requirement(item: str, name: str, parts: Sequence[str], ends: Sequence[int]) -> Pypi:
    constraints = []
    for start, end in pairwise(ends):
        operator, values = parts[start], parts[start + 1 : end]
        if not values:
            raise InvalidImageName(item, f"operator {operator} has no {_take_operand(operator)}")
        if operator == BUILD_OPERATOR:
            raise InvalidImageName(item, "packages of PyPI have no builds; ask for a version")
        constraints.append(Constraint(OPERATORS[operator], _parse_version(item, values)))
    try:
        return Pypi(make_requirement(name, constraints))
    except InvalidRequirement:
        versions = ", ".join(each.version for each in constraints)
        raise InvalidImageName(item, f"{versions or name} is nothing that PyPI can have (PEP 440)") from None


def _take_operand(operator: str) -> str:
    return "build string" if operator == BUILD_OPERATOR else "version"


def _split_channel(item: str, parts: Sequence[str]) -> tuple[str | None, str]:
    _refuse_version_in_name(item, parts)
    channel, separator, name = ".".join(parts).rpartition("__")
    if "__" in channel:
        raise InvalidImageName(item, "__ separates a channel from a package, and may occur once")
    return (channel if separator else None), name


def _refuse_version_in_name(item: str, parts: Sequence[str]) -> None:
    """Refuse digits after a dot, which are a version without its operator: `numpy.1.26`, `numpy.gtt.1`.

    Digits before the dot as well make it a name: libclang-cpp20.1 and atk-1.0 are packages.
    """
    for index, (before, part) in enumerate(pairwise(parts), start=1):
        if not part[0].isdigit() or before[-1].isdigit():
            continue
        if _is_operator(before):
            raise InvalidImageName(item, f"operator {before} has no package before it")
        head, tail = item.split(".")[: index - 1], item.split(".")[index:]
        meant = _guess_operator(before) or _find_near_operator(before)
        if head and meant:
            suggestion = ".".join([*head, meant, *tail])
            raise InvalidImageName(
                item, f"{before} is not an operator; the operators are {_list_operators()}", suggestion
            )
        raise InvalidImageName(item, f"no package {'.'.join(parts)}", ".".join([*head, before, "like", *tail]))


def _guess_operator(part: str) -> str | None:
    """Return the operator of which `part` must be a misspelling, even though a version may hold such parts: 1.0.rc.1,
    1.0.ga.2."""
    if part in _MEANT_OPERATORS:
        return _MEANT_OPERATORS[part]
    return next(iter(difflib.get_close_matches(part, [*OPERATORS, BUILD_OPERATOR], n=1, cutoff=0.75)), None)


def _find_near_operator(part: str) -> str | None:
    """Return the operator probably meant by `part`, where one is expected: `lr`, `eg`, `lk`, `greter`."""
    if part[::-1] in OPERATORS:
        return part[::-1]
    if words := difflib.get_close_matches(part, _MEANT_OPERATORS, n=1, cutoff=0.75):
        return _MEANT_OPERATORS[words[0]]
    # one of two letters is only half, which is enough if it is the first
    similar = [operator for operator in OPERATORS if len(part) <= 2 and operator[0] == part[0]]
    return next(iter(difflib.get_close_matches(part, similar, n=1, cutoff=0.5)), None)


def _list_operators() -> str:
    return ", ".join([*OPERATORS, BUILD_OPERATOR])


def _parse_version(item: str, parts: Sequence[str]) -> str:
    for before, part in pairwise(parts[1:]):
        meant = _guess_operator(before)
        if meant and part[0].isdigit():
            raise InvalidImageName(
                item,
                f"{before} is not an operator; the operators are {_list_operators()}",
                item.replace(f".{before}.", f".{meant}.", 1),
            )
    version = ".".join(parts).replace("__", "!").replace("--", "+")
    if not is_version(version):
        raise InvalidImageName(item, f"{version!r} is not a version; __ is ! (epoch) and -- is + (local)")
    return version


def _parse_build(item: str, text: str) -> str:
    if not _BUILD.fullmatch(text):
        raise InvalidImageName(item, f"{text!r} cannot be part of a build string")
    return text


def spell(item: str) -> str | None:
    """Return the item that `item` was probably meant to be, given a match spec such as `numpy>=1.2`, or
    `numpy.>=.1.2`."""
    text = _SYMBOLS.sub(lambda match: f".{_WORDS.get(match[1], '')}.", item).lower()
    if not REPOSITORY_PART.fullmatch(text):
        try:
            text = write_item(parse_match_spec(item))
        except InvalidImageName:
            return None
    if not REPOSITORY_PART.fullmatch(text):
        return None
    try:
        parse_items(text, ())
    except InvalidImageName as error:
        return error.suggestion
    return text


def write_item(item: PackageItem) -> str:
    """Write `item` in the grammar of items, even if the result is not a component of a repository name.

    An exact or partly wild build cannot be written there; the item then requests any build that contains it.
    """
    parts = [f"{item.channel}__{item.name}" if item.channel else item.name]
    for constraint in item.constraints:
        version = constraint.version.replace("!", "__").replace("+", "--")
        parts += [_WORDS[constraint.operator], version]
    return ".".join(parts + ([BUILD_OPERATOR, item.build.strip("*")] if item.build else []))


def write_requirement(requirement: str) -> str:
    """Write a package of PyPI in the grammar of items, without its extras, marker and URL, which names cannot have."""
    return write_item(PackageItem(read_name(requirement), PYPI, read_constraints(requirement) or ()))


def write_typed(item: PackageItem) -> str:
    """Write `item` as people type it: as in image names if that is possible, else as a match spec."""
    text = write_item(item)
    return text if REPOSITORY_PART.fullmatch(text) and _reads_as(text, item) else item.match_spec()


def _reads_as(text: str, item: PackageItem) -> bool:
    try:
        return parse_items(text, ()) == [item]
    except InvalidImageName:
        return False
