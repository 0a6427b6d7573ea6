"""What was asked for: an `EnvironmentSpec`, frozen, canonical and hashable."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any, Self

from builder.canonical import make_key

SPEC_FORMAT = 1
"""Part of every spec's key: raise it when the same spec must give another image."""

DEFAULT_PREFIX = "/opt/conda"


@dataclass(frozen=True, order=True)
class Constraint:
    """One version constraint: a conda operator (`>`, `>=`, `<`, `<=`, `==`, `!=`, `=`, `~=`) and a version."""

    operator: str
    version: str

    def __str__(self) -> str:
        return f"{self.operator}{self.version}"


_Choice = tuple[tuple[Constraint, ...], ...]


@dataclass(frozen=True)
class PackageItem:
    """One requested package.

    `build` is the whole build string. If it has a `*`, which stands for anything, case is ignored. Of `alternatives`,
    if there are any, one must hold: all constraints of it.
    """

    name: str
    channel: str | None = None
    constraints: tuple[Constraint, ...] = ()
    build: str | None = None
    alternatives: _Choice = ()

    @property
    def version(self) -> str:
        """The versions as conda writes them; empty if all match."""
        groups = [(*self.constraints, *group) for group in self.alternatives] or [self.constraints]
        return "|".join(",".join(map(str, group)) for group in groups)

    def match_spec(self) -> str:
        """Write the item as a conda match spec (CEP 29), e.g.

        `bioconda::samtools >=1.2,<2`, with the build in brackets.
        """
        channel = f"{self.channel}::" if self.channel else ""
        version = f" {self.version}" if self.version else ""
        build = f'[build="{self.build}"]' if self.build else ""
        return f"{channel}{self.name}{version}{build}"


def merge_items(items: Iterable[PackageItem]) -> tuple[PackageItem, ...]:
    """Merge equal wishes and put them in canonical order: by channel and name, constraints sorted.

    Wishes for one package become one item. A second requested build, or a second choice of alternatives, is an item of
    its own, which the solver must satisfy too.
    """
    merged: dict[tuple[str, str], tuple[set[Constraint], set[str], set[_Choice]]] = {}
    for item in items:
        constraints, builds, choices = merged.setdefault((item.channel or "", item.name), (set(), set(), set()))
        constraints.update(item.constraints)
        builds.update([item.build] if item.build else [])
        choices.update([item.alternatives] if item.alternatives else [])
    return tuple(
        item
        for (channel, name), (constraints, builds, choices) in sorted(merged.items(), key=lambda row: row[0])
        for item in _make_items(name, channel or None, constraints, sorted(builds), sorted(choices))
    )


def _make_items(
    name: str, channel: str | None, constraints: set[Constraint], builds: Sequence[str], choices: Sequence[_Choice]
) -> Iterable[PackageItem]:
    """The items of one package, of which the first has all that can be in one."""
    plain, choices = _narrow(constraints, choices)
    for build, choice in list(zip_longest(builds, choices)) or [(None, None)]:
        yield PackageItem(name, channel, plain, build, choice or ())
        plain = ()


def _narrow(
    constraints: set[Constraint], choices: Sequence[_Choice]
) -> tuple[tuple[Constraint, ...], Sequence[_Choice]]:
    """Put what is needed in any case into each alternative of a choice: match specs have no parentheses here."""
    plain = tuple(sorted(constraints))
    for index, choice in enumerate(choices):
        narrowed = tuple(sorted({tuple(sorted({*plain, *group})) for group in choice}))
        if len(narrowed) > 1:
            return (), sorted({narrowed, *choices[index + 1 :]})
        plain = narrowed[0]
    return plain, ()


@dataclass(frozen=True)
class EnvironmentSpec:
    """Match specs, channels, platforms, virtual packages and cut-off date.

    Equal wishes are equal objects: items sorted and merged, channels in order of priority, platforms sorted.
    """

    items: tuple[PackageItem, ...]
    channels: tuple[str, ...]
    platforms: tuple[str, ...] = ("linux-64",)
    single: bool = False
    """Answer with the one platform's manifest rather than an index."""
    virtual_packages: tuple[tuple[str, str], ...] = ()
    """In addition to the server's own, e.g. `("__cuda", "12.4")`."""
    until: datetime.date | None = None
    """Packages newer than the end of this day (UTC) are excluded."""
    prefix: str = DEFAULT_PREFIX
    owner: str = ""
    """The namespace whose credentials its channels are asked with; nobody else gets what is made of it. Empty if they
    are asked with none of a namespace's."""
    variables: tuple[tuple[str, str], ...] = ()
    """Environment variables of whatever runs in the environment, sorted by name. They override those of packages."""
    base: str = ""
    """The base image below it, as the setting `allowed_bases` names it; empty for the server's own."""
    requirements: tuple[str, ...] = ()
    """PyPI packages: requirements of PEP 508 in canonical form, sorted. They are solved over the conda packages."""
    indexes: tuple[str, ...] = ()
    """The indexes (PEP 503) that are asked for `requirements`, the first that has a name wins. Empty: the server's."""
    hashes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """If there are any: by name of the distribution, the sha256 of the only wheels that may be chosen."""

    def to_json(self) -> dict[str, Any]:
        return {
            "format": SPEC_FORMAT,
            "items": [
                {
                    "name": item.name,
                    "channel": item.channel,
                    "constraints": [[constraint.operator, constraint.version] for constraint in item.constraints],
                    "build": _build_to_json(item.build),
                    # items without a choice keep the keys of before
                    **({"alternatives": _groups_to_json(item.alternatives)} if item.alternatives else {}),
                }
                for item in self.items
            ],
            "channels": list(self.channels),
            "platforms": list(self.platforms),
            "single": self.single,
            "virtual_packages": [list(pair) for pair in self.virtual_packages],
            "until": self.until.isoformat() if self.until else None,
            "prefix": self.prefix,
            # specs that have none of these keep the keys of before
            **({"owner": self.owner} if self.owner else {}),
            **({"variables": [list(pair) for pair in self.variables]} if self.variables else {}),
            **({"base": self.base} if self.base else {}),
            **({"requirements": list(self.requirements)} if self.requirements else {}),
            **({"indexes": list(self.indexes)} if self.indexes else {}),
            **({"hashes": {name: list(each) for name, each in self.hashes}} if self.hashes else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            items=tuple(
                PackageItem(
                    name=item["name"],
                    channel=item["channel"],
                    constraints=tuple(Constraint(operator, version) for operator, version in item["constraints"]),
                    build=_build_from_json(item["build"]),
                    alternatives=tuple(
                        tuple(Constraint(operator, version) for operator, version in group)
                        for group in item.get("alternatives", ())
                    ),
                )
                for item in document["items"]
            ),
            channels=tuple(document["channels"]),
            platforms=tuple(document["platforms"]),
            single=document["single"],
            virtual_packages=tuple((name, version) for name, version in document["virtual_packages"]),
            until=datetime.date.fromisoformat(document["until"]) if document["until"] else None,
            prefix=document["prefix"],
            owner=document.get("owner", ""),
            variables=tuple((name, value) for name, value in document.get("variables", ())),
            base=document.get("base", ""),
            requirements=tuple(document.get("requirements", ())),
            indexes=tuple(document.get("indexes", ())),
            hashes=tuple((name, tuple(each)) for name, each in sorted(document.get("hashes", {}).items())),
        )

    @cached_property
    def key(self) -> str:
        """The spec's hash: 64 hex digits over everything above."""
        return make_key("spec", self.to_json())

    def match_specs(self) -> list[str]:
        return [item.match_spec() for item in self.items]

    def list_wishes(self) -> list[str]:
        """All that is asked for, as it is typed on a command line: match specs, and `pypi::requests>=2`."""
        return [*self.match_specs(), *(f"pypi::{each}" for each in self.requirements)]


def _groups_to_json(groups: Iterable[Iterable[Constraint]]) -> list[list[list[str]]]:
    return [[[constraint.operator, constraint.version] for constraint in group] for group in groups]


_CONTAINED = re.compile(r"\*([^*]+)\*")
_PATTERN = "="


def match_within(part: str) -> str:
    """Return the pattern of builds that contain `part`."""
    return f"*{part}*"


def find_within(build: str) -> str | None:
    """Return what the pattern `build` requires builds to contain, if it requires nothing else."""
    match = _CONTAINED.fullmatch(build)
    return match[1] if match else None


def _build_to_json(build: str | None) -> str | None:
    """Write `*cuda*` as `cuda`, which keeps the keys of stored specs, and any other pattern after a `=`, which no build
    has."""
    return build and (find_within(build) or f"{_PATTERN}{build}")


def _build_from_json(text: str | None) -> str | None:
    if not text:
        return None
    return text.removeprefix(_PATTERN) if text.startswith(_PATTERN) else match_within(text)
