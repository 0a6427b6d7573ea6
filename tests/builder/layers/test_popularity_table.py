"""How the table of popularity is made: counted, and ranked so that clients pull little."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence

import pytest

from bench.layering.environments import FOLDS, Archive, Environment, folds
from bench.layering.layer_order import LayerOrder, OwnLayer
from bench.layering.plan_quality import condery, judge
from bench.layering.popularity_table import fit, text_of
from builder.layers.plan import PlanPackage
from builder.layers.popularity import Popularity

MB = 1_000_000


def environment(project: str, *versions: str, size: int = 2 * MB) -> Environment:
    """Packages as `name=version`, each `size` bytes."""
    return Environment(project, tuple(Archive(PlanPackage(each.partition("=")[0], size), each) for each in versions))


def random_environments(seed: int, count: int = 30) -> list[Environment]:
    generator = random.Random(seed)
    names = [f"package-{number}" for number in range(14)]
    return [
        environment(
            f"organisation-{generator.randrange(8)}/project",
            *(f"{name}={generator.randrange(3)}" for name in generator.sample(names, generator.randrange(2, 12))),
            size=generator.randrange(1, 9) * MB,
        )
        for _ in range(count)
    ]


def own_layers(environments: Sequence[Environment]) -> list[dict[str, OwnLayer]]:
    return [
        {each.package.name: OwnLayer(each.sha256, each.package.size) for each in environment.archives}
        for environment in environments
    ]


def pulled(environments: Sequence[dict[str, OwnLayer]], order: Sequence[str]) -> int:
    """By the definition: the bytes of the last layers of all distinct chains."""
    chains: dict[tuple[str, ...], int] = {}
    for layers in environments:
        present = [name for name in order if name in layers]
        for end in range(1, len(present) + 1):
            chain = tuple(f"{name} {layers[name].sha256}" for name in present[:end])
            chains[chain] = layers[present[end - 1]].size
    return sum(chains.values())


def of_one_size_each(environments: list[dict[str, OwnLayer]]) -> list[dict[str, OwnLayer]]:
    """An archive of one digest has one size, which random ones do not see to."""
    sizes = {layer.sha256: layer.size for layers in environments for layer in layers.values()}
    return [
        {name: OwnLayer(layer.sha256, sizes[layer.sha256]) for name, layer in layers.items()} for layers in environments
    ]


@pytest.mark.parametrize("seed", range(8))
def test_climbing_keeps_count_of_what_is_pulled_and_only_saves(seed: int) -> None:
    environments = of_one_size_each(own_layers(random_environments(seed)))
    names = sorted({name for layers in environments for name in layers})
    order = LayerOrder(environments, names, random.Random(seed))
    before = order.pulled
    assert before == pulled(environments, names)
    order.climb(lambda _name: True, 3)
    assert sorted(order.order) == names
    assert order.pulled == pulled(environments, order.order) < before


@pytest.mark.parametrize("seed", range(4))
def test_no_package_is_better_anywhere_else_in_the_end(seed: int) -> None:
    environments = of_one_size_each(own_layers(random_environments(seed, count=12)))
    names = sorted({name for layers in environments for name in layers})
    order = LayerOrder(environments, names, random.Random(seed))
    order.climb(lambda _name: True, 50)
    for name, place in itertools.product(names, range(len(names))):
        others = [each for each in order.order if each != name]
        assert pulled(environments, [*others[:place], name, *others[place:]]) >= order.pulled


def test_what_is_not_to_be_moved_keeps_its_order() -> None:
    environments = of_one_size_each(own_layers(random_environments(1)))
    names = sorted({name for layers in environments for name in layers})
    order = LayerOrder(environments, names, random.Random(1))
    order.climb(lambda name: name >= "package-5", 3)
    kept = [name for name in order.order if name < "package-5"]
    assert kept == sorted(kept)
    assert order.order != names


def test_what_changes_between_environments_gets_a_high_place() -> None:
    environments = own_layers(
        [environment("organisation/project", f"moving={number}", "stable=1", "usual=1") for number in range(9)]
    )
    order = LayerOrder(environments, ["moving", "stable", "usual"], random.Random(1))
    order.climb(lambda _name: True, 1)
    assert order.order[-1] == "moving"


def test_the_table_is_the_same_every_time_and_is_read_as_it_was_written() -> None:
    environments = [*random_environments(5), environment("organisation-1/other", "small=1", "tiny=1", size=5000)]
    table = fit(environments, version=7)
    assert text_of(fit(list(environments), version=7)) == text_of(table)
    read = Popularity.from_json(json.loads(text_of(table)))
    assert read == table
    assert read.version == 7
    assert "small" not in read.usages, "a small package of one project is left out"


def test_folds_judge_each_organisation_once_by_what_it_is_not_in() -> None:
    environments = random_environments(3, count=60)
    judged = []
    for learned, others in folds(environments, 1):
        assert not {each.organisation for each in learned} & {each.organisation for each in others}
        judged += others
    assert len(folds(environments, 1)) == FOLDS
    assert sorted(map(id, judged)) == sorted(map(id, environments))


def test_what_is_judged_is_what_was_fitted() -> None:
    environments = [environment(f"o-{number % 3}/p", "a=1", f"b={number}", "c=1") for number in range(6)]
    # a and c once, and b of each environment, over 14 MB of 8 distinct packages
    assert judge(environments, condery, fit(environments)).pulled == 1.0
