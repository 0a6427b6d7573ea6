"""Patterns with `*`."""

from __future__ import annotations

import time

import pytest

from storage.glob import glob


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("", "", True),
        ("*", "", True),
        ("*", "a/b\nc", True),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a?", "ab", False),
        ("[ab]", "a", False),
        ("A", "a", False),
    ],
)
def test_a_star_alone_is_special(pattern: str, text: str, fits: bool) -> None:
    assert glob(pattern, text) is fits


def test_a_pattern_of_many_stars_is_decided_at_once() -> None:
    begun = time.process_time()
    assert not glob("*a" * 250 + "b", "a" * 20_000)
    # exponential or quadratic ways would take minutes
    assert time.process_time() - begun < 5
