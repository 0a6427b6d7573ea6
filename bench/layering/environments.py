"""Solved environments of other people's projects; the layer plan is fitted to them and judged by them.

A file is JSON compressed with zstd: {"environments": [{"project": "organisation/name", "packages": [[name, version,
build, size in bytes, sha256, timestamp, and if known noarch and depends], ...]}, ...]}.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from builder.layers.plan import PlanPackage, find_kind

FOLDS = 5


@dataclass(frozen=True)
class Archive:
    package: PlanPackage
    sha256: str


@dataclass(frozen=True)
class Environment:
    project: str
    archives: tuple[Archive, ...]

    @property
    def organisation(self) -> str:
        return self.project.partition("/")[0]


def read(paths: Iterable[Path]) -> list[Environment]:
    return [environment for path in paths for environment in _read(path)]


def folds(environments: Sequence[Environment], seed: int) -> list[tuple[list[Environment], list[Environment]]]:
    """Pairs of environments to learn from and to judge by, from different organisations; each is judged by once.

    The folds are about equally large: the largest organisations are dealt out first, equal ones in an order by the
    seed.
    """
    counts = Counter(environment.organisation for environment in environments)
    organisations = sorted(counts)
    random.Random(seed).shuffle(organisations)
    members: list[set[str]] = [set() for _ in range(FOLDS)]
    for organisation in sorted(organisations, key=lambda each: -counts[each]):
        min(members, key=lambda fold: sum(counts[each] for each in fold)).add(organisation)
    return [
        (
            [each for each in environments if each.organisation not in fold],
            [each for each in environments if each.organisation in fold],
        )
        for fold in members
    ]


def _read(path: Path) -> list[Environment]:
    with path.open("rb") as file:
        document = json.load(zstandard.ZstdDecompressor().stream_reader(file))
    return [
        Environment(environment["project"], tuple(map(_archive, environment["packages"])))
        for environment in document["environments"]
    ]


def _archive(row: Sequence[Any]) -> Archive:
    name, _version, build, size, sha256 = row[:5]
    noarch, depends = row[6:8] if len(row) >= 8 else (None, ())
    is_python = "python" in str(noarch) if len(row) >= 8 else str(build).startswith(("pyh", "py_"))
    kind = find_kind("python" if is_python else None, str(build), depends or ())
    return Archive(PlanPackage(str(name), int(size or 0), kind), str(sha256))
