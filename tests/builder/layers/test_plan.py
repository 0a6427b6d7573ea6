"""The layer plan: what holds for every set of packages, and what the shipped table makes of a usual one."""

from __future__ import annotations

from importlib.resources import files
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.layers.plan import MAX_LAYERS, OWN_LAYER_FROM, PackageKind, Plan, PlanPackage, find_kind, plan
from builder.layers.popularity import PackageUsage, Popularity

SHIPPED = Popularity.load_shipped()

names = st.sampled_from(sorted(SHIPPED.usages)) | st.from_regex(r"new-[a-z]{1,4}", fullmatch=True)
sizes = st.integers(0, 5000) | st.integers(0, 2_000_000_000)
package_sets = st.lists(
    st.builds(PlanPackage, names, sizes, st.sampled_from(PackageKind)),
    max_size=60,
    unique_by=lambda package: package.name,
)


def flat(planned: Plan) -> list[str]:
    return [name for layer in planned.layers for name in layer]


def many(count: int, size: int = 5_000_000) -> list[PlanPackage]:
    return [PlanPackage(f"package-{number:03}", size + number * 100_000) for number in range(count)]


@given(package_sets, st.integers(1, MAX_LAYERS))
def test_every_package_is_in_one_layer_and_the_limit_holds(packages: list[PlanPackage], limit: int) -> None:
    planned = plan(packages, SHIPPED, limit)
    assert sorted(flat(planned)) == sorted(package.name for package in packages)
    assert len(planned.layers) <= limit
    assert all(planned.layers)


@given(package_sets, st.integers(1, MAX_LAYERS), st.randoms(use_true_random=False))
def test_the_order_of_packages_does_not_matter(packages: list[PlanPackage], limit: int, random: Random) -> None:
    shuffled = list(packages)
    random.shuffle(shuffled)
    assert plan(shuffled, SHIPPED, limit) == plan(packages, SHIPPED, limit)


@given(package_sets.filter(bool))
def test_one_more_package_leaves_the_others_where_they_are(packages: list[PlanPackage]) -> None:
    added, *before = packages
    old, new = plan(before, SHIPPED), plan(packages, SHIPPED)
    assert flat(old) == [name for name in flat(new) if name != added.name]
    assert set(old.layers) - set(new.layers) <= {
        tuple(name for name in layer if name != added.name) for layer in new.layers if added.name in layer
    }


@given(package_sets.filter(bool), st.integers(0, 2_000_000_000))
def test_a_new_version_of_a_known_package_keeps_its_place(packages: list[PlanPackage], size: int) -> None:
    updated = [
        PlanPackage(package.name, size if package.name in SHIPPED.usages else package.size, package.kind)
        for package in packages
    ]
    assert plan(updated, SHIPPED) == plan(packages, SHIPPED)


def test_one_more_package_over_the_limit_keeps_the_order_of_large_ones() -> None:
    nothing_known = Popularity(0, "none", {})
    full, over = plan(many(100), nothing_known), plan(many(101), nothing_known)
    assert len(full.layers) == 100
    assert full.own_layer_from == OWN_LAYER_FROM
    assert len(over.layers) <= 100
    assert over.own_layer_from > OWN_LAYER_FROM
    alone = [layer for layer in over.layers if len(layer) == 1]
    assert alone == [("package-100",)] + [layer for layer in full.layers if layer in alone]


def test_without_ranks_the_heavy_are_first_and_bundles_last() -> None:
    table = Popularity(
        0,
        "here",
        {"big": PackageUsage(0.5, 50_000_000), "usual": PackageUsage(1.0, 9_000_000), "z": PackageUsage(1.0, 5000)},
    )
    packages = [
        PlanPackage("a-new-one", 900_000_000),
        PlanPackage("another-new-one", 1_000_000),
        PlanPackage("one-more-new-one", 1_000_000),
        PlanPackage("small-new-one", 10),
        *(PlanPackage(name, usage.size) for name, usage in table.usages.items()),
    ]
    assert plan(packages, table).layers == (
        ("a-new-one",), ("big",), ("usual",), ("another-new-one",), ("one-more-new-one",), ("z",), ("small-new-one",)
    )  # fmt: skip


def test_ranks_decide_and_a_new_package_is_where_its_weight_would_be() -> None:
    ranked = {
        "a": PackageUsage(1.0, 1_000_000, 2),
        "b": PackageUsage(1.0, 3_000_000, 0),
        "c": PackageUsage(1.0, 5_000_000, 1),
    }
    table = Popularity(0, "here", ranked | {"unranked": PackageUsage(1.0, 2_000_000)})
    new = [
        PlanPackage("heaviest", 900_000_000),
        PlanPackage("between", 12_000_000),
        PlanPackage("lightest", 1_000_000),
    ]
    packages = new + [PlanPackage(name, 1) for name in table.usages]
    # a share of 1/54 weighs 12 MB as 4.4 MB that all hold: one ranked package is heavier, and one place comes first
    assert [*map("".join, plan(packages, table).layers)] == [
        "heaviest", "b", "between", "c", "unranked", "a", "lightest"
    ]  # fmt: skip


@given(st.lists(st.sampled_from(sorted(SHIPPED.usages)), unique=True))
def test_own_layers_are_in_the_order_of_the_shipped_ranks(names: list[str]) -> None:
    planned = plan([PlanPackage(name, 1) for name in names], SHIPPED)
    ranks = [
        SHIPPED.usages[layer[0]].rank
        for layer in planned.layers
        if SHIPPED.usages[layer[0]].size >= planned.own_layer_from
    ]
    assert None not in ranks
    assert ranks == sorted(ranks, key=lambda rank: rank or 0)


def test_small_packages_of_one_kind_and_band_share_a_layer() -> None:
    table = Popularity(0, "here", {name: PackageUsage(0.95, 5000) for name in "abcdef"})
    kinds = dict(zip("abcdef", [*PackageKind, *PackageKind], strict=True))
    planned = plan([PlanPackage(name, 5000, kind) for name, kind in kinds.items()], table)
    assert planned.layers == (("a", "d"), ("b", "e"), ("c", "f"))


def test_nothing_to_plan() -> None:
    assert plan([], SHIPPED).layers == ()
    with pytest.raises(ValueError, match="0 layers"):
        plan(many(1), SHIPPED, 0)


@pytest.mark.parametrize(
    ("noarch", "build", "depends", "kind"),
    [
        ("python", "pyhd8ed1ab_0", ("python >=3.9",), PackageKind.NOARCH_PYTHON),
        ("generic", "hc364b38_0", (), PackageKind.PLAIN),
        (None, "h4bc722e_0", ("libgcc >=13",), PackageKind.PLAIN),
        (None, "py312h98912ed_0", (), PackageKind.PYTHON_ABI),
        (None, "cuda126_mkl_py311_h1234567_300", (), PackageKind.PYTHON_ABI),
        (None, "h98912ed_0", ("python_abi 3.12.* *_cp312",), PackageKind.PYTHON_ABI),
        (None, "8_cp313", ("cpython 3.13.*",), PackageKind.PYTHON_ABI),
    ],
)
def test_kinds(noarch: str | None, build: str, depends: tuple[str, ...], kind: PackageKind) -> None:
    assert find_kind(noarch, build, depends) is kind


def test_the_shipped_table_is_plausible() -> None:
    assert SHIPPED.version == 2
    assert SHIPPED.usages["openssl"].share > 0.9
    assert 1_000_000 < SHIPPED.usages["openssl"].size < 10_000_000
    assert all(0 < usage.share <= 1 and usage.size > 0 for usage in SHIPPED.usages.values())
    assert len(files("builder.layers").joinpath("popularity.json").read_bytes()) < 500_000


def test_the_shipped_table_ranks_all_that_may_have_a_layer_of_their_own() -> None:
    large = {name: usage for name, usage in SHIPPED.usages.items() if usage.size >= OWN_LAYER_FROM}
    assert sorted(usage.rank for usage in large.values() if usage.rank is not None) == [*range(len(large))]
    assert all(usage.rank is None for name, usage in SHIPPED.usages.items() if name not in large)
