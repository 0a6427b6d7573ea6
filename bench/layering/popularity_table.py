"""Makes the table that the layer plan uses: `python -m bench.layering.popularity_table --version N FILE... OUTPUT`.

FILEs hold solved environments (see bench/layering/environments.py). The same files and version give the same table.
docs/layering.md says how it is judged.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.layering.environments import Environment, read
from bench.layering.layer_order import LayerOrder, OwnLayer
from builder.layers.plan import OWN_LAYER_FROM, plan
from builder.layers.popularity import PackageUsage, Popularity

SWEEPS = 2
"""More sweeps fit the counted environments slightly better, but no others."""
MOVED_FROM = 2
"""The fewest organisations that must hold a package for its place to be fitted: one says little about others."""
SEED = 1


def fit(environments: Sequence[Environment], version: int = 0) -> Popularity:
    """The table for `environments`: counted, then ranked by climbing from the order of packages' weights.

    A rank is the mean of the two places. Anything further that the climb finds fits these environments alone: without
    this step, ranks are worse than weights on other organisations' environments.
    """
    counted = count(environments, version)
    holders: dict[str, set[str]] = defaultdict(set)
    for environment in environments:
        for archive in environment.archives:
            holders[archive.package.name].add(environment.organisation)
    large = [name for name, usage in counted.usages.items() if usage.size >= OWN_LAYER_FROM]
    large.sort(key=lambda name: (-counted.usages[name].weight, name))
    order = LayerOrder([_own_layers(each, counted) for each in environments], large, random.Random(SEED))
    order.climb(lambda name: len(holders[name]) >= MOVED_FROM, SWEEPS)
    places = _sums_of_places(large, order.order)
    ranks = {name: rank for rank, name in enumerate(sorted(order.order, key=places.__getitem__))}
    usages = {name: replace(usage, rank=ranks.get(name)) for name, usage in counted.usages.items()}
    return replace(counted, usages=usages)


def _sums_of_places(*orders: Sequence[str]) -> Mapping[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for order in orders:
        for place, name in enumerate(order):
            sums[name] += place
    return sums


def count(environments: Sequence[Environment], version: int = 0) -> Popularity:
    """Shares and usual sizes without ranks, with sizes rounded to kB as in a table's file."""
    projects: dict[str, set[str]] = defaultdict(set)
    sizes: dict[str, list[int]] = defaultdict(list)
    for environment in environments:
        for archive in environment.archives:
            projects[archive.package.name].add(environment.project)
            sizes[archive.package.name].append(archive.package.size)
    total = len({environment.project for environment in environments})
    text = (
        f"linux-64 packages of {len(environments)} solved environments of {total} public projects: name -> [share of "
        "projects that hold the package, median size of its archive in kB, and for those with a layer of their own the "
        f"rank]. Packages of one project below {OWN_LAYER_FROM // 1000} kB are left out."
    )
    usages = {
        name: PackageUsage(
            round(len(projects[name]) / total, 4), max(1, round(statistics.median(sizes[name]) / 1000)) * 1000
        )
        for name in sorted(projects)
    }
    kept = {name: each for name, each in usages.items() if len(projects[name]) > 1 or each.size >= OWN_LAYER_FROM}
    return Popularity(version, text, kept)


def _own_layers(environment: Environment, popularity: Popularity) -> Mapping[str, OwnLayer]:
    threshold = plan([archive.package for archive in environment.archives], popularity).own_layer_from
    return {
        archive.package.name: OwnLayer(archive.sha256, archive.package.size)
        for archive in environment.archives
        if archive.package.name in popularity.usages and popularity.usages[archive.package.name].size >= threshold
    }


def text_of(popularity: Popularity) -> str:
    """The table's file, with one package per line, so that a diff shows what has changed."""
    rows = []
    for name, usage in sorted(popularity.usages.items()):
        figures = [usage.share, usage.size // 1000] + ([] if usage.rank is None else [usage.rank])
        rows.append(f"{json.dumps(name)}:{json.dumps(figures, separators=(',', ':'))}")
    head = f'"version":{popularity.version},\n"counted":{json.dumps(popularity.counted)},\n"packages":'
    return "{" + head + "{\n" + ",\n".join(rows) + "}}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.layering.popularity_table", description=__doc__)
    parser.add_argument("--version", type=int, required=True, help="another than that of any table before")
    parser.add_argument("environments", type=Path, nargs="+", help="files of solved environments")
    parser.add_argument("output", type=Path)
    chosen = parser.parse_args(arguments)
    chosen.output.write_text(text_of(fit(read(chosen.environments), chosen.version)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
