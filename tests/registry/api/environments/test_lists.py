"""Lists of environments and builds: filters, sorts, pages, and all rows for clients that name no page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from storage.environments.vocabulary import NewSpecification
from tests.support.registry.environments import Place, serving_environments

PEOPLE = {
    "admin": ("*/*=admin",),
    "one": ("team/env-007=viewer",),
    "none": (),
    "half": ("other/*=viewer", "team/env-00*=viewer"),
    "many": tuple(f"team-{number}/*=viewer" for number in range(70)),
}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """120 environments of one build each that nobody has begun, and two that are built."""
    async with serving_environments(tmp_path, PEOPLE) as place:
        store = place.parts.stored_environments.environments
        for number in range(120):
            namespace, name = ("team", "other")[number % 2], f"env-{number:03}"
            wanted = NewSpecification(name, {"name": name}, {"spec": {}})
            await store.ask_for_build(namespace, name, f"{namespace}/{name}", wanted, by="ann")
        await place.make("built_one", "one", namespace="lab")
        both = await place.make("built_both", "one", "two", namespace="lab")
        await place.parts.stored_environments.on_disk.note(both["id"], "/srv/both")
        yield place


def names(answer: Any) -> list[str]:
    return [each["name"] for each in answer["data"]]


async def test_without_a_page_all_rows_come(place: Place) -> None:
    """conda-store's command line asks for the same again until it has `count` rows."""
    for path, count in (("environment", 122), ("build", 122)):
        for end in ("", "/", "?status=/", "/?status=&artifact="):
            found = (await place.get(path + end)).json()
            assert (found["page"], found["size"], found["count"], len(found["data"])) == (1, count, count, count)
            assert len({each["id"] for each in found["data"]}) == count
    found = (await place.get("environment")).json()
    keys = [(each["namespace"]["name"], each["name"]) for each in found["data"]]
    assert keys == sorted(keys)


async def test_pages(place: Place) -> None:
    seen: list[str] = []
    for page in (1, 2, 3):
        found = (await place.get(f"environment/?page={page}&size=50")).json()
        assert (found["page"], found["size"], found["count"]) == (page, 50, 122)
        seen += names(found)
    assert len(seen) == len(set(seen)) == 122
    assert len((await place.get("environment/?size=1000")).data) == 100, "never more on a page"
    assert (await place.get("environment/?page=9&size=100")).data == []


async def test_filters_of_environments(place: Place) -> None:
    for query, count in (
        ("namespace=team", 60),
        ("namespace=team&name=env-002", 1),
        ("namespace=nothing", 0),
        ("search=ENV-01", 10),
        ("search=lab", 2),
        ("search=_", 2),
        ("search=%25", 0),
        ("status=COMPLETED", 2),
        ("status=QUEUED", 120),
        ("status=FAILED", 0),
        ("packages=one", 2),
        ("packages=one&packages=two", 1),
        ("packages=one&packages=two/", 1),
        ("packages=three", 0),
        ("artifact=DOCKER_MANIFEST", 2),
        ("artifact=LOGS", 122),
        ("artifact=DIRECTORY", 1),
        ("artifact=DIRECTORY&search=one", 0),
        ("artifact=CONSTRUCTOR_INSTALLER", 0),
    ):
        for page in ("", "&page=1&size=100"):
            assert (await place.get(f"environment/?{query}{page}")).json()["count"] == count, query


async def test_filters_and_sorts_of_builds(place: Place) -> None:
    environment = (await place.get("environment/lab/built_both/")).data
    for query, count in (
        ("namespace=lab", 2),
        ("namespace=lab&name=built_one", 1),
        (f"environment_id={environment['id']}", 1),
        ("status=COMPLETED", 2),
        ("packages=two", 1),
        ("artifact=CONDA_PACK&namespace=team", 0),
        ("artifact=DIRECTORY", 1),
        ("artifact=DIRECTORY&status=FAILED", 0),
    ):
        for page in ("", "&page=1&size=100"):
            assert (await place.get(f"build/?{query}{page}")).json()["count"] == count, query
    for sort in ("id", "scheduled_on", "started_on", "ended_on"):
        found = (await place.get(f"build/?namespace=lab&sort_by={sort}&order=desc&page=1&size=10")).data
        values = [each[sort] for each in found]
        assert values == sorted(values, reverse=True)


async def test_lists_show_what_may_be_read_and_count_nothing_else(place: Place) -> None:
    for who, wanted in (("one", 0), ("half", 65), ("none", 0), ("many", 0)):
        for path in ("environment/", "environment/?page=1&size=10", "build/", "build/?page=1&size=10"):
            assert (await place.by(who).get(path)).json()["count"] == wanted, path
