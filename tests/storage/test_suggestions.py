"""What is suggested for a name that there is not."""

from __future__ import annotations

import pytest

from registry.settings.model import all_settings
from storage.suggestions import MOST_CHARACTERS, did_you_mean, find_near

SETTINGS = [setting.name for setting in all_settings()]


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("prot", ["root", "port"], ["port"]),
        ("alcie", ["alice", "alcide"], ["alice"]),
        # neither is likelier
        ("ab", ["ba", "abc", "abd"], ["ba"]),
        ("rort", ["root", "port"], ["root", "port"]),
        ("chanels", SETTINGS, ["channels"]),
        ("qqqq", SETTINGS, []),
        ("", ["a"], []),
        ("aa", ["aa"], ["aa"]),
    ],
)
def test_the_likeliest_is_first(name: str, known: list[str], near: list[str]) -> None:
    assert find_near(name, known)[: len(near)] == near
    assert bool(find_near(name, known)) == bool(near)


@pytest.mark.parametrize("name", SETTINGS)
def test_any_two_neighbours_of_a_setting_that_changed_places_give_that_setting(name: str) -> None:
    for index in range(len(name) - 1):
        swapped = name[:index] + name[index + 1] + name[index] + name[index + 2 :]
        if swapped not in SETTINGS:
            assert find_near(swapped, SETTINGS) == [name]


def test_a_long_name_is_compared_by_its_beginning() -> None:
    assert find_near("a" * 10**6, ["a" * MOST_CHARACTERS]) == ["a" * MOST_CHARACTERS]


def test_the_end_of_a_sentence() -> None:
    assert (did_you_mean([]), did_you_mean(["a", "b"])) == ("", "; did you mean a or b?")
