"""Names are found where they may be, in order, whatever the page begins after, and nowhere else."""

from __future__ import annotations

import pytest

from storage.database import engine
from storage.repositories.places import EVERYWHERE, MOST_BEGINNINGS, Places
from tests.support.storage.content import Content

NAMES = ["a", "a-b/c", "a/b", "a/b/c", "a/c", "ab/c", "b", "b.c/d", "b/a", "b/b", "b0", "c/d"]
CASES = [
    Places.of((), ()),
    Places.of(["a/b", "nothing", "b/b", "c/d"], ()),
    Places.of((), ["a", "b/"]),
    Places.of(["b", "a", "a/c", "c/d"], ["a/", "b/", "z"]),
    Places.of(["a/b"], ["", "a"]),
    EVERYWHERE,
]


@pytest.mark.parametrize("most", [1, 10_000])
async def test_names_of_places(content: Content, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(engine, "MOST_PARAMETERS", most)
    for name in NAMES:
        await content.push_image(name, "v1", b"data")
    for places in CASES:
        wanted = [
            name for name in NAMES if name in places.names or any(name.startswith(each) for each in places.beginnings)
        ]
        for last in (None, "", "a", "a/b", "ab", "b", "b/a", "b/zz", "zz"):
            after = [name for name in wanted if last is None or name > last]
            for limit in (1, 2, 3, 100):
                page = await content.repositories.names(last, limit, places)
                assert (page.items, page.more) == (after[:limit], len(after) > limit), (places, last, limit)


def test_of_places_within_others_the_larger_ones_are_left() -> None:
    assert Places.of(["team/a", "other"], ["team/", "team", "te"]) == Places(("other",), ("te",))
    assert Places.of(["team/a"], [""]) == EVERYWHERE


def test_more_queries_than_reading_everything_takes_are_not_made() -> None:
    assert len(Places.of((), [f"team{number:03}/" for number in range(MOST_BEGINNINGS)]).beginnings) == MOST_BEGINNINGS
    assert Places.of(["a"], [f"team{number:03}/" for number in range(MOST_BEGINNINGS + 1)]) == EVERYWHERE


def test_fewer_places_cost_less() -> None:
    few, many = Places.of(["a"], ["b"]), Places.of(map(str, range(10_000)), ())
    assert few.cost < many.cost < EVERYWHERE.cost
