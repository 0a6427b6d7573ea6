"""Which packages share which layer, and in what order. docs/layering.md has reasons, alternatives and numbers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain

from builder.layers.popularity import PackageUsage, Popularity
from builder.locks.lock import WHEEL_PREFIX, LockedPackage

PLAN_FORMAT = 2
"""Part of what determines an image's bytes: raise it when the same packages are to be laid out differently."""

MAX_LAYERS = 100
"""Layers of one plan. docker stops at 125 in all, and people build FROM our images."""

OWN_LAYER_FROM = 700_000
"""Bytes from which a package gets a layer of its own, as long as the limit allows."""
BAND_EDGES = (0.9, 0.6, 0.3, 0.1)
"""Shares of environments that separate the bands in which small packages are bundled."""
SIZE_EDGES = (300_000, 1_000_000, 2_000_000)
"""Bytes that separate bundles: small packages, whose changes are cheap, stay apart from large ones."""


class PackageKind(IntEnum):
    """What a package's builds depend on.

    A bundle holds one kind, so that a new Python affects only one bundle in three.
    """

    PLAIN = 0
    PYTHON_ABI = 1
    """Compiled for one minor version of Python."""
    NOARCH_PYTHON = 2


@dataclass(frozen=True)
class PlanPackage:
    """What a plan considers. `size` is the archive's in bytes; 0 if the lock does not say."""

    name: str
    size: int
    kind: PackageKind = PackageKind.PLAIN

    @classmethod
    def of(cls, package: LockedPackage) -> PlanPackage:
        kind = (
            find_kind_of_wheel(package.build)
            if package.is_wheel
            else find_kind(package.noarch, package.build, package.depends)
        )
        return cls(package.name, package.size or 0, kind)


@dataclass(frozen=True)
class Plan:
    """Package names by layer, the lowest layer first.

    Within a layer they have the order in which fragments are joined.
    """

    layers: tuple[tuple[str, ...], ...]
    own_layer_from: int
    """Bytes from which packages got a layer of their own. Plans with the same value agree on every package's layer."""


@dataclass(frozen=True)
class _Ranked:
    package: PlanPackage
    usage: PackageUsage
    place: float

    @property
    def order(self) -> tuple[float, float, str]:
        """Sorts by the table's rank. Unranked packages at the same place sort by weight, then by name."""
        return self.place, -self.usage.weight, self.package.name

    @property
    def bundle(self) -> tuple[int, int, int]:
        """Identifies the bundle of a package without a layer of its own; bundles sort by it."""
        band = sum(self.usage.share < edge for edge in BAND_EDGES)
        return band, self.package.kind, sum(self.usage.size >= edge for edge in SIZE_EDGES)


def find_kind(noarch: str | None, build: str, depends: Iterable[str]) -> PackageKind:
    if noarch == "python":
        return PackageKind.NOARCH_PYTHON
    needs_abi = any(dependency.split(" ")[0] == "python_abi" for dependency in depends)
    return PackageKind.PYTHON_ABI if needs_abi or re.search(r"(?:py|cp)[23]\d", build) else PackageKind.PLAIN


def find_kind_of_wheel(tags: str) -> PackageKind:
    """Find the kind of a wheel by the tags of its file name. All go to the folder of one minor version of Python."""
    return PackageKind.NOARCH_PYTHON if tags.endswith("-any") else PackageKind.PYTHON_ABI


def plan(packages: Sequence[PlanPackage], popularity: Popularity, limit: int = MAX_LAYERS) -> Plan:
    """Lay `packages`, which have distinct names, out in at most `limit` layers.

    This is a pure function that ignores the order of `packages`. A package's place follows from the package and the
    table alone, so adding one neither moves the others nor changes a layer that it is not in. Only at the limit does
    the size from which packages get layers of their own rise, by a factor of 1.4 at a time.
    """
    if limit < 1:
        raise ValueError(f"{limit} layers hold no package")
    ranked = sorted((_rank(package, popularity) for package in packages), key=lambda each: each.order)
    threshold = OWN_LAYER_FROM
    layers = _arrange(ranked, threshold)
    while len(layers) > limit and any(each.usage.size >= threshold for each in ranked):
        threshold = threshold * 7 // 5
        layers = _arrange(ranked, threshold)
    if len(layers) > limit:
        layers[limit - 1 :] = [list(chain.from_iterable(layers[limit - 1 :]))]
    return Plan(tuple(tuple(each.package.name for each in layer) for layer in layers), threshold)


def _rank(package: PlanPackage, popularity: Popularity) -> _Ranked:
    """Rank a package by its usual size, where known, rather than this version's, so that an update keeps its place."""
    # a wheel is as popular as the conda package of its name, which usually is the same software
    usage = popularity.find_usage(package.name.removeprefix(WHEEL_PREFIX), package.size)
    return _Ranked(package, usage, popularity.find_place(usage))


def _arrange(ranked: Sequence[_Ranked], threshold: int) -> list[list[_Ranked]]:
    """Put packages from `threshold` bytes in layers of their own; then come the bundles, the most popular first."""
    own = [[each] for each in ranked if each.usage.size >= threshold]
    bundles: dict[tuple[int, int, int], list[_Ranked]] = defaultdict(list)
    for each in ranked:
        if each.usage.size < threshold:
            bundles[each.bundle].append(each)
    return own + [bundles[key] for key in sorted(bundles)]
