"""What the layer plan is worth on real environments, beside others: `python -m bench.layering.plan_quality FILE...`.

FILEs hold solved environments (bench/layering/environments.py). "held out": the table is made from the environments of
four fifths of the organisations and the plans are judged on the others, each fifth in turn, for several cuts.
"shipped": all environments with the shipped table, which may have been made from them.

- stored: bytes of distinct layers / bytes of distinct packages.
- pulled: bytes of layers that a client extracts if it reuses one only along an equal prefix of the chain, likewise.

Exits 1 if the held-out figures of condery's plan miss the aims.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.layering.environments import Archive, Environment, folds, read
from bench.layering.popularity_table import fit
from bench.row import Row
from builder.layers.plan import MAX_LAYERS, plan
from builder.layers.popularity import Popularity

CUTS = (1, 2, 3)
"""Seeds for different ways to cut the organisations into fifths."""
STORED_MUST, PULLED_MUST, LAYERS_MUST = 1.04, 1.65, 42


@dataclass(frozen=True)
class Quality:
    stored: float
    pulled: float
    most_layers: float
    median_layers: float


Layers = list[list[Archive]]
Planner = Callable[[Sequence[Archive], Popularity], Layers]


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


def judge_held_out(environments: Sequence[Environment]) -> dict[str, list[Quality]]:
    """By plan, its quality in each fold of each cut, with a table made without the fold's organisations."""
    found = defaultdict(list)
    for cut in CUTS:
        for learned, judged in folds(environments, cut):
            popularity = fit(learned)
            for name, planner in PLANS.items():
                found[name].append(judge(judged, planner, popularity))
    return found


def mean(qualities: Sequence[Quality]) -> Quality:
    """Means, but the greatest number of layers."""
    return Quality(
        statistics.mean(each.stored for each in qualities),
        statistics.mean(each.pulled for each in qualities),
        max(each.most_layers for each in qualities),
        statistics.mean(each.median_layers for each in qualities),
    )


def one_layer(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    return [list(archives)]


def layer_each(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    return [[archive] for archive in sorted(archives, key=lambda each: (-_share(each, popularity), each.package.name))]


def largest(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    """The 99 largest packages alone, the rest in one layer."""
    ordered = sorted(archives, key=lambda each: (-each.package.size, each.package.name))
    return [[archive] for archive in ordered[:99]] + ([ordered[99:]] if ordered[99:] else [])


def bands(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    """Own layers from 0.3 MB by popularity x size, small packages in 8 bands, anything over the limit in the last."""
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


def by_weight(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    """condery's layers without ranks: own layers by share^0.5 x size²."""
    return _own_layers_sorted(archives, popularity, lambda name, size: -popularity.find_usage(name, size).weight)


def by_share(archives: Sequence[Archive], popularity: Popularity) -> Layers:
    """condery's layers, with own layers by share x size², followed by packages that are not in the table."""

    def score(name: str, size: int) -> float:
        usage = popularity.usages.get(name)
        return -usage.share * usage.size**2 if usage else 0.0

    return _own_layers_sorted(archives, popularity, score)


def _own_layers_sorted(
    archives: Sequence[Archive], popularity: Popularity, score: Callable[[str, int], float]
) -> Layers:
    by_name = {archive.package.name: archive for archive in archives}
    planned = plan([archive.package for archive in archives], popularity)
    own: Layers = []
    bundles: Layers = []
    for layer in planned.layers:
        package = by_name[layer[0]].package
        is_own = popularity.find_usage(package.name, package.size).size >= planned.own_layer_from
        (own if is_own else bundles).append([by_name[name] for name in layer])
    own.sort(key=lambda layer: (score(layer[0].package.name, layer[0].package.size), layer[0].package.name))
    return own + bundles


def _share(archive: Archive, popularity: Popularity) -> float:
    usage = popularity.usages.get(archive.package.name)
    return usage.share if usage else 0.0


def _weight(archive: Archive, popularity: Popularity) -> float:
    usage = popularity.usages.get(archive.package.name)
    return usage.share * usage.size if usage else 0.0


CONDERY = "condery"

PLANS: dict[str, Planner] = {
    "one layer": one_layer,
    "a layer per package": layer_each,
    "the 99 largest, rest in one": largest,
    "8 popularity bands": bands,
    "own layers by share x size²": by_share,
    "own layers by share^0.5 x size²": by_weight,
    CONDERY: condery,
}


def rows(quality: Quality) -> list[Row]:
    """condery's held-out means beside the aims."""
    return [
        Row("layer plan, stored, held out", quality.stored, "of distinct", STORED_MUST, "at most"),
        Row("layer plan, pulled, held out", quality.pulled, "of distinct", PULLED_MUST, "at most"),
        Row("layer plan, median layers, held out", quality.median_layers, "layers", LAYERS_MUST, "at most"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.layering.plan_quality", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("environments", type=Path, nargs="+", help="solved environments, see the module's text")
    paths: list[Path] = parser.parse_args(arguments).environments
    for path in paths:
        if not path.exists():
            print(f"{path} is not there: the plan is not judged", file=sys.stderr)
            return 0
    environments = read(paths)
    found = judge_held_out(environments)
    shipped = Popularity.load_shipped()
    projects = len({environment.project for environment in environments})
    console = Console(width=140)
    console.print(f"{len(environments)} environments of {projects} projects")
    console.print(_means({name: (mean(found[name]), judge(environments, PLANS[name], shipped)) for name in PLANS}))
    console.print(_by_fold(found))
    judged = rows(mean(found[CONDERY]))
    for row in judged:
        console.print(f"{row.name}: {row.value:.3f}, {row.bound} {row.must:g}: {'ok' if row.holds else 'NOT MET'}")
    return 0 if all(row.holds for row in judged) else 1


def _means(qualities: dict[str, tuple[Quality, Quality]]) -> Table:
    result = Table("plan", "table", "stored", "pulled", "layers max / median")
    for name, both in qualities.items():
        for source, quality in zip(("held out", "shipped"), both, strict=True):
            layers = f"{quality.most_layers:.0f} / {quality.median_layers:.0f}"
            result.add_row(name, source, f"{quality.stored:.3f}", f"{quality.pulled:.3f}", layers)
    return result


def _by_fold(found: dict[str, list[Quality]]) -> Table:
    result = Table("fold", *list(PLANS)[-3:], "stored", "median layers", title="pulled, by fold held out")
    for index, quality in enumerate(found[CONDERY]):
        pulled = [f"{found[name][index].pulled:.3f}" for name in list(PLANS)[-3:]]
        result.add_row(str(index + 1), *pulled, f"{quality.stored:.3f}", f"{quality.median_layers:.0f}")
    return result


if __name__ == "__main__":
    sys.exit(main())
