"""Which packages share which layer, in which order. Reasons, alternatives and numbers: docs/layering.md."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain

from builder.layers.popularity import Popularity, Usage
from builder.locks.lock import LockedPackage

PLAN_FORMAT = 2
"""Part of what an image's bytes follow from: raise it when the same packages are to be laid out otherwise."""

MAX_LAYERS = 100
"""Layers of one plan: docker stops at 125 in all, and people build FROM our images."""

OWN_LAYER_FROM = 700_000
"""Bytes from which a package has a layer of its own, while the limit allows."""
BAND_EDGES = (0.9, 0.6, 0.3, 0.1)
"""Shares of environments between which small packages are bundled."""
SIZE_EDGES = (300_000, 1_000_000, 2_000_000)
"""Bytes between which bundled packages are kept apart: small ones, which change together cheaply, from large ones."""


class PackageKind(IntEnum):
    """What a package's builds depend on: a bundle holds one kind, so that another Python spoils only one of three."""

    PLAIN = 0
    PYTHON_ABI = 1
    """Compiled for one minor version of Python."""
    NOARCH_PYTHON = 2


@dataclass(frozen=True)
class PlanPackage:
    """What a plan looks at. `size` is that of the archive in bytes; 0 where the lock does not say it."""

    name: str
    size: int
    kind: PackageKind = PackageKind.PLAIN

    @classmethod
    def of(cls, package: LockedPackage) -> PlanPackage:
        return cls(package.name, package.size or 0, find_kind(package.noarch, package.build, package.depends))


@dataclass(frozen=True)
class Plan:
    """Packages' names layer by layer, the lowest first; within a layer in the order in which fragments are joined."""

    layers: tuple[tuple[str, ...], ...]
    own_layer_from: int
    """Bytes from which packages got a layer of their own. Plans with the same figure agree on every package's layer."""


@dataclass(frozen=True)
class _Ranked:
    package: PlanPackage
    usage: Usage
    place: float

    @property
    def order(self) -> tuple[float, float, str]:
        """Sorts by the table's ranks; packages without one that fall on one place, by weight, then name."""
        return self.place, -self.usage.weight, self.package.name

    @property
    def bundle(self) -> tuple[int, int, int]:
        """Names the bundle that the package is in when it has no layer of its own; bundles sort by it."""
        band = sum(self.usage.share < edge for edge in BAND_EDGES)
        return band, self.package.kind, sum(self.usage.size >= edge for edge in SIZE_EDGES)


def find_kind(noarch: str | None, build: str, depends: Iterable[str]) -> PackageKind:
    if noarch == "python":
        return PackageKind.NOARCH_PYTHON
    needs_abi = any(dependency.split(" ")[0] == "python_abi" for dependency in depends)
    return PackageKind.PYTHON_ABI if needs_abi or re.search(r"(?:py|cp)[23]\d", build) else PackageKind.PLAIN


def plan(packages: Sequence[PlanPackage], popularity: Popularity, limit: int = MAX_LAYERS) -> Plan:
    """Lay `packages`, each of another name, out in at most `limit` layers.

    A pure function that does not see the order of `packages`. A package's place follows from the package and the table
    alone, so adding one neither moves the others nor changes a layer it is not in; only where the limit is met does the
    size from which packages have layers of their own rise, by steps of a factor of 1.4.
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
    """The usual size, where known, decides rather than this version's, so that an update keeps its place."""
    usage = popularity.usage(package.name, package.size)
    return _Ranked(package, usage, popularity.place(usage))


def _arrange(ranked: Sequence[_Ranked], threshold: int) -> list[list[_Ranked]]:
    """Packages from `threshold` bytes in layers of their own, then the bundles, the most popular first."""
    own = [[each] for each in ranked if each.usage.size >= threshold]
    bundles: dict[tuple[int, int, int], list[_Ranked]] = defaultdict(list)
    for each in ranked:
        if each.usage.size < threshold:
            bundles[each.bundle].append(each)
    return own + [bundles[key] for key in sorted(bundles)]
