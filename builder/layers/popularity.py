"""How often real environments hold a package, how large it usually is, and its best place in a chain of layers.

The table is data with a version. docs/layering.md says how it is made.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, Self

UNKNOWN_SHARE = 1 / 54
"""The share of packages that are not in the table: half a project of the first 27 that were counted."""


@dataclass(frozen=True)
class PackageUsage:
    """`share` of the counted projects hold the package, above 0 and at most 1. `size`: median archive, bytes."""

    share: float
    size: int
    rank: int | None = None
    """The place among the ranked packages in a chain of layers, 0 for the lowest layer. Ranks are unique."""

    @property
    def weight(self) -> float:
        """Orders packages without a rank, the heaviest lowest.

        All operations are exact: every machine gets the same value.
        """
        return math.sqrt(self.share) * float(self.size) ** 2


@dataclass(frozen=True)
class Popularity:
    """The table. Another version orders layers differently, so it is an input of every image's bytes."""

    version: int
    counted: str
    """How the figures were obtained."""
    usages: Mapping[str, PackageUsage]

    @classmethod
    def load_shipped(cls) -> Self:
        """Load the table that comes with this release. Load it once and pass it on."""
        return cls.from_json(json.loads(files("builder.layers").joinpath("popularity.json").read_bytes()))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        packages = document["packages"].items()
        usages = {name: PackageUsage(share, kilobytes * 1000, *rank) for name, (share, kilobytes, *rank) in packages}
        return cls(document["version"], document["counted"], usages)

    def find_usage(self, name: str, size: int) -> PackageUsage:
        """Return the table's figures for the package `name`, or an estimate from its `size` in bytes if it has none."""
        return self.usages.get(name) or PackageUsage(UNKNOWN_SHARE, size)

    def find_place(self, usage: PackageUsage) -> float:
        """Return the rank. An unranked package goes between ranks, as many up as there are heavier ranked packages."""
        return usage.rank if usage.rank is not None else bisect.bisect_left(self._lightness, -usage.weight) - 0.5

    @cached_property
    def _lightness(self) -> list[float]:
        return sorted(-usage.weight for usage in self.usages.values() if usage.rank is not None)
