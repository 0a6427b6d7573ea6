"""The order that tests begin in: a file of `FIRST` that was renamed would lose its place unnoticed."""

from __future__ import annotations

import pytest

from tests.conftest import FIRST, pytest_collection_modifyitems
from tests.support.sample import ROOT


def test_the_files_that_begin_first_are_there() -> None:
    assert [each for each in FIRST if not (ROOT / each).is_file()] == []


def test_they_come_first_and_then_files_with_many_tests(request: pytest.FixtureRequest) -> None:
    items = list(request.session.items)
    pytest_collection_modifyitems(items)
    assert sorted(map(id, items)) == sorted(map(id, request.session.items))
    files = list(dict.fromkeys(item.nodeid.partition("::")[0] for item in items))
    early = [each for each in files if each in FIRST]
    assert files[: len(early)] == early == [each for each in FIRST if each in early]
    counts = [sum(item.nodeid.startswith(f"{each}::") for item in items) for each in files[len(early) :]]
    assert counts == sorted(counts, reverse=True)
