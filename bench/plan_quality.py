"""What the layer plan is worth on real environments, beside other plans: `python -m bench.plan_quality FILE`.

FILE holds solved environments, JSON compressed with zstd: {"environments": [{"project": ..., "packages": [[name,
version, build, size in bytes, sha256, ...], ...]}, ...]}. "held out": the popularity table is counted from one half of
the projects and the plans are judged on the other half, both ways, for several random halvings. "shipped": all of them
with the shipped table.

- stored: bytes of distinct layers / bytes of distinct packages.
- pulled: bytes of layers that a client extracts when it reuses one only along an equal prefix of the chain, likewise.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard
from rich.console import Console
from rich.table import Table

from builder.plan import MAX_LAYERS, PlanPackage, kind_of, plan
from builder.popularity import Popularity, Usage

HALVINGS = 6


@dataclass(frozen=True)
class Archive:
    package: PlanPackage
    sha256: str


@dataclass(frozen=True)
class Environment:
    project: str
    archives: tuple[Archive, ...]


@dataclass(frozen=True)
class Quality:
    stored: float
    pulled: float
    most_layers: float
    median_layers: float


Layers = list[list[Archive]]
Planner = Callable[[Sequence[Archive], Popularity], Layers]


def read(path: Path) -> list[Environment]:
    with path.open("rb") as file:
        document = json.load(zstandard.ZstdDecompressor().stream_reader(file))
    return [
        Environment(environment["project"], tuple(map(_archive, environment["packages"])))
        for environment in document["environments"]
    ]


def _archive(row: Sequence[str | int | None]) -> Archive:
    name, _version, build, size, sha256 = row[:5]
    noarch = "python" if str(build).startswith(("pyh", "py_")) else None
    return Archive(PlanPackage(str(name), int(size or 0), kind_of(noarch, str(build), ())), str(sha256))


def count(environments: Iterable[Environment]) -> Popularity:
    """The popularity table of `environments`, counted as the shipped one is."""
    projects: dict[str, set[str]] = defaultdict(set)
    sizes: dict[str, list[int]] = defaultdict(list)
    for environment in environments:
        for archive in environment.archives:
            projects[archive.package.name].add(environment.project)
            sizes[archive.package.name].append(archive.package.size)
    total = len({environment.project for environment in environments})
    usages = {name: Usage(len(projects[name]) / total, round(statistics.median(sizes[name]))) for name in projects}
    return Popularity(0, "here", usages)


def judge(environments: Sequence[Environment], planner: Planner, popularity: Popularity) -> Quality:
    layers: dict[frozenset[str], int] = {}
    chains: dict[tuple[frozenset[str], ...], int] = {}
    counts = []
    for environment in environments:
        chain: tuple[frozenset[str], ...] = ()
        planned = planner(environment.archives, popularity)
        counts.append(len(planned))
        for layer in planned:
            content = frozenset(archive.sha256 for archive in layer)
            chain = (*chain, content)
            layers[content] = chains[chain] = sum(archive.package.size for archive in layer)
    distinct = {archive.sha256: archive.package.size for each in environments for archive in each.archives}
    total = sum(distinct.values())
    return Quality(
        sum(layers.values()) / total, sum(chains.values()) / total, max(counts), float(statistics.median(counts))
    )


def held_out(environments: Sequence[Environment], planner: Planner) -> Quality:
    """Means over halvings of the projects; the most layers of any."""
    generator = random.Random(1)
    projects = sorted({environment.project for environment in environments})
    found = []
    for _ in range(HALVINGS):
        generator.shuffle(projects)
        first = set(projects[: len(projects) // 2])
        halves = ([each for each in environments if (each.project in first) is inside] for inside in (True, False))
        one, other = halves
        found += [judge(other, planner, count(one)), judge(one, planner, count(other))]
    return Quality(
        statistics.mean(each.stored for each in found),
        statistics.mean(each.pulled for each in found),
        max(each.most_layers for each in found),
        statistics.mean(each.median_layers for each in found),
    )


def one_layer(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    return [list(archives)]


def layer_each(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    return [[archive] for archive in sorted(archives, key=lambda each: (-_share(each, popularity), each.package.name))]


def largest(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    """The 99 largest, the rest in one."""
    ordered = sorted(archives, key=lambda each: (-each.package.size, each.package.name))
    return [[archive] for archive in ordered[:99]] + ([ordered[99:]] if ordered[99:] else [])


def bands(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    """Own layers from 0.3 MB by popularity x size, small ones in 8 bands, what is over the limit in the last."""
    edges = (0.9, 0.8, 0.6, 0.45, 0.3, 0.2, 0.08)
    bundles: dict[int, list[Archive]] = defaultdict(list)
    own = [archive for archive in archives if archive.package.size >= 300_000]
    for archive in archives:
        if archive.package.size < 300_000:
            bundles[sum(_share(archive, popularity) < edge for edge in edges)].append(archive)
    own.sort(key=lambda each: (-each.package.size, each.package.name))
    room = MAX_LAYERS - len(bundles)
    if own[room:]:
        bundles[max(bundles, default=0)] += own[room:]
    first = sorted(own[:room], key=lambda each: (-_weight(each, popularity), each.package.name))
    return [[archive] for archive in first] + [bundles[band] for band in sorted(bundles)]


def condery(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    by_name = {archive.package.name: archive for archive in archives}
    planned = plan([archive.package for archive in archives], popularity)
    return [[by_name[name] for name in layer] for layer in planned.layers]


def _share(archive: Archive, popularity: Popularity) -> float:
    usage = popularity.usages.get(archive.package.name)
    return usage.share if usage else 0.0


def _weight(archive: Archive, popularity: Popularity) -> float:
    usage = popularity.usages.get(archive.package.name)
    return usage.share * usage.size if usage else 0.0


PLANS: dict[str, Planner] = {
    "one layer": one_layer,
    "a layer per package": layer_each,
    "the 99 largest, rest in one": largest,
    "8 popularity bands": bands,
    "condery": condery,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.plan_quality", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("environments", type=Path, help="solved environments, see the module's text")
    path: Path = parser.parse_args(arguments).environments
    if not path.exists():
        print(f"{path} is not there: the plan is not judged", file=sys.stderr)
        return 0
    environments = read(path)
    projects = len({environment.project for environment in environments})
    result = Table("plan", "table", "stored", "pulled", "layers max / median")
    result.title = f"{len(environments)} environments of {projects} projects"
    shipped = Popularity.shipped()
    for name, planner in PLANS.items():
        for source, quality in (
            ("held out", held_out(environments, planner)),
            ("shipped", judge(environments, planner, shipped)),
        ):
            layers = f"{quality.most_layers:.0f} / {quality.median_layers:.0f}"
            result.add_row(name, source, f"{quality.stored:.3f}", f"{quality.pulled:.2f}", layers)
    Console().print(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
