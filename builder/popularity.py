"""How often real environments hold a package and how large it usually is: a table shipped as data with a version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Self


@dataclass(frozen=True)
class Usage:
    """`share` of the counted projects that hold the package, above 0 and at most 1; `size`: median archive, bytes."""

    share: float
    size: int


@dataclass(frozen=True)
class Popularity:
    """The table. Another version orders layers otherwise, so it is an input of every image's bytes."""

    version: int
    counted: str
    """How the figures were got."""
    usages: Mapping[str, Usage]

    @classmethod
    def shipped(cls) -> Self:
        """The table that comes with this release; construct it once and pass it on."""
        document = json.loads(files("builder").joinpath("popularity.json").read_bytes())
        usages = {name: Usage(share, kilobytes * 1000) for name, (share, kilobytes) in document["packages"].items()}
        return cls(document["version"], document["counted"], usages)
