"""Lists of environments and of builds: who sees what, filters, orders and pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import pytest

from storage.environments.lists.scope import MOST_PATTERNS, Scope
from storage.environments.vocabulary import (
    BUILD_SORTS,
    ENVIRONMENT_SORTS,
    BuildFilter,
    BuildStatus,
    EnvironmentFilter,
    Paging,
)
from storage.glob import glob
from tests.support.storage.environments import Named

ALL = Scope()


async def names(
    named: Named, which: EnvironmentFilter | None = None, paging: Paging | None = None, scope: Scope = ALL
) -> list[str]:
    """Of the environments that are listed; both ways of listing agree."""
    environments = named.store.environments
    listed = await environments.list_all(scope, which, paging)
    ids = await environments.list_ids(scope, which, paging)
    assert ids == [each.id for each in listed.items]
    assert await environments.find_many(ids) == listed.items
    if paging is None:
        assert listed.count == len(listed.items)
    return [f"{each.namespace}/{each.name}" for each in listed.items]


async def builds(
    named: Named, which: BuildFilter | None = None, paging: Paging | None = None, scope: Scope = ALL
) -> list[int]:
    listed = await named.store.builds.list_all(scope, which, paging)
    ids = await named.store.builds.list_ids(scope, which, paging)
    assert ids == [each.id for each in listed.items]
    assert await named.store.builds.find_many(ids) == listed.items
    if paging is None:
        assert listed.count == len(listed.items)
    return ids


@pytest.fixture
async def filled(named: Named) -> Named:
    """Three environments with builds 1 to 5; 4 has failed and 5 waits."""
    await named.make("one", "python", "numpy", name="science")
    await named.make("two", "python", name="A_b", namespace="lab")
    await named.make("three", "python", "numpy", "scipy", name="science")
    await named.fail(await named.ask(name="100%", namespace="lab"))
    await named.ask(name="science")
    return named


async def test_environments_are_filtered(filled: Named) -> None:
    found = {
        "all": await names(filled),
        "namespace": await names(filled, EnvironmentFilter(namespace="lab")),
        "name": await names(filled, EnvironmentFilter(name="science")),
        "another case": await names(filled, EnvironmentFilter(name="Science")),
        "failed": await names(filled, EnvironmentFilter(status=BuildStatus.FAILED)),
        "complete": await names(filled, EnvironmentFilter(status=BuildStatus.COMPLETED)),
        "image": await names(filled, EnvironmentFilter(has_image=True, namespace="lab")),
        "package": await names(filled, EnvironmentFilter(packages=("python",))),
        "packages": await names(filled, EnvironmentFilter(packages=("scipy", "python"))),
        "no package": await names(filled, EnvironmentFilter(packages=("python", "scip"))),
    }
    assert found == {
        "all": ["team/science", "lab/A_b", "lab/100%"],
        "namespace": ["lab/A_b", "lab/100%"],
        "name": ["team/science"],
        "another case": [],
        "failed": ["lab/100%"],
        "complete": ["team/science", "lab/A_b"],
        "image": ["lab/A_b"],
        "package": ["team/science", "lab/A_b"],
        "packages": ["team/science"],
        "no package": [],
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SCI", ["team/science"]),
        ("tea", ["team/science"]),
        ("a_B", ["lab/A_b"]),
        ("a%b", []),
        ("%", ["lab/100%"]),
        ("_", ["lab/A_b"]),
        ("/", []),
        ("\\", []),
        ("'", []),
        ("", ["team/science", "lab/A_b", "lab/100%"]),
    ],
)
async def test_a_search_is_for_text_and_not_a_pattern(filled: Named, text: str, found: list[str]) -> None:
    assert await names(filled, EnvironmentFilter(search=text)) == found


async def test_filters_are_about_the_current_build(filled: Named) -> None:
    await filled.store.environments.change("team", "science", build_id=1)
    assert await names(filled, EnvironmentFilter(packages=("scipy",))) == []
    assert await names(filled, EnvironmentFilter(packages=("numpy",))) == ["team/science"]


async def test_builds_are_filtered(filled: Named) -> None:
    found = {
        "all": await builds(filled),
        "namespace": await builds(filled, BuildFilter(namespace="lab")),
        "name": await builds(filled, BuildFilter(name="science")),
        "both": await builds(filled, BuildFilter(namespace="lab", name="science")),
        "environment": await builds(filled, BuildFilter(environment=2)),
        "queued": await builds(filled, BuildFilter(status=BuildStatus.QUEUED)),
        "image": await builds(filled, BuildFilter(has_image=True)),
        "packages": await builds(filled, BuildFilter(packages=("python", "numpy"))),
        "some": await builds(filled, BuildFilter(packages=("python",), namespace="team", has_image=True)),
    }
    assert found == {
        "all": [1, 2, 3, 4, 5],
        "namespace": [2, 4],
        "name": [1, 3, 5],
        "both": [],
        "environment": [2],
        "queued": [5],
        "image": [1, 2, 3],
        "packages": [1, 3],
        "some": [1, 3],
    }


async def test_what_is_deleted_is_in_no_list(filled: Named) -> None:
    await filled.store.environments.delete("lab", "A_b")
    await filled.store.environments.delete_build(1)
    assert await names(filled) == ["team/science", "lab/100%"]
    assert await builds(filled) == [3, 4, 5]
    assert [each.id for each in await filled.store.environments.find_many([2, 1])] == [2, 1]


# orders and pages


@pytest.mark.parametrize("descending", [False, True])
async def test_environments_are_sorted(filled: Named, descending: bool) -> None:
    await filled.ask(name="science", namespace="lab")
    found = {sort: await names(filled, paging=Paging(sort=sort, descending=descending)) for sort in ENVIRONMENT_SORTS}
    expected = {
        "id": ["team/science", "lab/A_b", "lab/100%", "lab/science"],
        "name": ["lab/100%", "lab/A_b", "lab/science", "team/science"],
        "namespace": ["lab/100%", "lab/A_b", "lab/science", "team/science"],
    }
    assert found == {sort: each[::-1] if descending else each for sort, each in expected.items()}


@pytest.mark.parametrize("descending", [False, True])
async def test_builds_are_sorted_and_what_has_not_begun_or_ended_is_the_last(filled: Named, descending: bool) -> None:
    for number, times in enumerate([(9, 1, 5), (8, 3, 4), (8, 2, 6), (7, None, 3), (6, None, None)], start=1):
        build = await filled.store.builds.find(number)
        await filled.change(build, **dict(zip(("scheduled", "started", "ended"), times, strict=True)))
    found = {sort: await builds(filled, paging=Paging(sort=sort, descending=descending)) for sort in BUILD_SORTS}
    expected = {
        "id": [1, 2, 3, 4, 5],
        "scheduled_on": [5, 4, 2, 3, 1],
        "started_on": [1, 3, 2, 4, 5],
        "ended_on": [4, 2, 1, 3, 5],
    }
    assert found == {sort: each[::-1] if descending else each for sort, each in expected.items()}


async def test_pages(filled: Named) -> None:
    pages = [await builds(filled, paging=Paging(offset, 2, "id", True)) for offset in (0, 2, 4, 6)]
    assert pages == [[5, 4], [3, 2], [1], []]
    assert (await filled.store.builds.list_all(ALL, None, Paging(4, 2))).count == 5
    assert await names(filled, paging=Paging(1, 1, "name")) == ["lab/A_b"]
    assert await names(filled, paging=Paging(0, 0)) == []


FILTERS = (
    BuildFilter(),
    BuildFilter(namespace="team"),
    BuildFilter(name="science", status=BuildStatus.COMPLETED),
    BuildFilter(environment=2),
    BuildFilter(status=BuildStatus.COMPLETED),
    BuildFilter(status=BuildStatus.FAILED, has_image=True),
    BuildFilter(packages=("python",)),
    BuildFilter(packages=("numpy", "python"), namespace="team"),
    BuildFilter(packages=("numpy", "nothing")),
    BuildFilter(namespace="nothing"),
)


async def test_what_many_builds_meet_is_walked_with_the_same_result(
    filled: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [
        Paging(offset, 2, sort, descending)
        for offset in (0, 1, 2, 4)
        for sort in BUILD_SORTS
        for descending in (False, True)
    ]
    scope = Scope.of([["team/*", "lab/a*"]])
    sorted_ = [await filled.store.builds.list_all(scope, which, page) for which in FILTERS for page in pages]
    monkeypatch.setattr("storage.environments.lists.builds.MOST_SORTED", 0)
    monkeypatch.setattr("storage.environments.lists.numbers.FEW", -1)
    walked = [await filled.store.builds.list_all(scope, which, page) for which in FILTERS for page in pages]
    assert walked == sorted_
    assert {len(each.items) for each in walked} == {0, 1, 2}


async def test_packages_of_more_locks_than_one_row_has(named: Named, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.environments.lists.contents.BITS", 2)
    made = [await named.make(f"lock-{number}", "python", f"package-{number % 2}") for number in range(5)]
    ids = [each.id for each in made]
    assert await builds(named, BuildFilter(packages=("python",))) == ids
    assert await builds(named, BuildFilter(packages=("package-1", "python"))) == ids[1::2]
    await named.store.environments.delete_build(ids[1])
    await named.store.upkeep.forget([ids[1]])
    assert await builds(named, BuildFilter(packages=("package-1",))) == ids[3::2]
    again = await named.make("lock-1", "python", "package-1", name="again")
    assert await builds(named, BuildFilter(packages=("package-1",))) == [ids[3], again.id]


async def test_lists_that_are_longer_than_one_statement(named: Named, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.database.engine.MOST_PARAMETERS", 2)
    made = [await named.ask(name=f"science{number}") for number in range(5)]
    assert await builds(named) == [each.id for each in made]
    assert len(await names(named)) == 5


# who sees what


Granted = Sequence[Sequence[str]]

MANY = tuple(f"team-{number}/*" for number in range(1000))
ODD = tuple(f"t*/{number}*" for number in range(MOST_PATTERNS + 1))

SCOPES: Mapping[str, tuple[Granted, list[str]]] = {
    "all": ((), ["team/science", "lab/A_b", "lab/100%"]),
    "none": (((),), []),
    "a namespace": ((("lab/*",),), ["lab/A_b", "lab/100%"]),
    "a name": ((("lab/a_b",),), ["lab/A_b"]),
    "both": ((("team/*", "lab/a_b", "lab/nothing"),), ["team/science", "lab/A_b"]),
    "everything within a namespace": ((("*/*", "a/b"), ("lab/*",)), ["lab/A_b", "lab/100%"]),
    "a beginning": ((("team/sc*",),), ["team/science"]),
    "an end": ((("*/*_b",),), ["lab/A_b"]),
    "the middle": ((("t*m/s*ce", "*a*/1*"),), ["team/science", "lab/100%"]),
    "no single character": ((("lab/?_b", "lab/a%b", "l_b/*_b", "lab/[a-z]_b*"),), []),
    "no capitals": ((("lab/A*", "LAB/*", "L*/a*"),), []),
    "a pattern within a namespace": ((("*/*c*", "*/a*"), ("lab/*",)), ["lab/A_b"]),
    "many namespaces": ((MANY,), []),
    "many patterns": ((ODD, ("l*/*", *ODD)), []),
    "many patterns, and another": ((("l*/*", *ODD),), ["lab/A_b", "lab/100%"]),
    "many patterns within a namespace": ((("*/*", *ODD), ("t*/s*", *ODD), ("team/*",)), ["team/science"]),
}


async def test_scopes(filled: Named) -> None:
    """Nobody sees more or less than one pattern of each area allows."""
    of = {"team/science": [1, 3, 5], "lab/A_b": [2], "lab/100%": [4]}
    for name, (granted, wanted) in SCOPES.items():
        scope = Scope.of(granted, partial(_is_in, granted))
        assert await names(filled, scope=scope) == wanted, name
        assert await builds(filled, scope=scope) == sorted(each for name in wanted for each in of[name]), name
        # filters are within what somebody sees
        found = await names(filled, EnvironmentFilter(namespace="team"), scope=scope)
        assert found == [each for each in wanted if each.startswith("team/")], name


def _is_in(granted: Granted, repository: str) -> bool:
    return all(any(glob(pattern, repository) for pattern in patterns) for patterns in granted)


async def test_a_pattern_of_many_stars_takes_no_time(filled: Named) -> None:
    """Somebody may choose those of their own tokens."""
    await filled.ask(name="a" * 120, namespace="a" * 120)
    scope = Scope.of([["*a" * 200 + "b/*"], ["*a" * 200 + "/*" + "a*" * 50]], lambda _: False)
    async with asyncio.timeout(20):
        assert await names(filled, scope=scope) == []
