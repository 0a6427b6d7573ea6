"""No pattern that matches is missed, and few others are looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from auth.binding import Binding
from auth.pattern_index import PatternIndex
from auth.role import VIEWER

_pattern = st.builds("{}/{}".format, *[st.text("ab*", min_size=1, max_size=9)] * 2)
_name = st.text("ab", min_size=1, max_size=7)
_entity = st.one_of(_name, st.builds("{}/{}".format, _name, _name), st.builds("{}/{}/{}".format, _name, _name, _name))


@given(st.lists(_pattern, max_size=40), st.lists(_entity, max_size=8))
def test_every_pattern_that_matches_is_a_candidate(patterns: list[str], entities: list[str]) -> None:
    index = PatternIndex(patterns)
    for entity in entities:
        candidates = index.candidates(entity)
        assert candidates == sorted(set(candidates))
        matching = {number for number, pattern in enumerate(patterns) if Binding(pattern, VIEWER).matches(entity)}
        assert matching <= set(candidates)


def test_few_of_many_are_candidates() -> None:
    for shape in ("team-{}/*", "team/image-{}*", "team/*-image-{}", "*-{}/*", "*/image-{}", "*m-{}*/*g*"):
        index = PatternIndex([shape.format(number) for number in range(1000)])
        assert len(index.candidates("team-512/of-some-image-512")) < 100, shape
    assert PatternIndex(["*/*", "ab*/*", "team/x", "team/y"]).candidates("team/x") == [0, 2]
