"""The tree of errors that each package draws is the tree of its classes, wherever these are."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.support.errors import all_errors
from tests.support.rooms import PACKAGES


def drawn_in(text: str) -> dict[str, str]:
    """The name of each class in the drawing, and of the one above it."""
    drawn: dict[str, str] = {}
    above = ["ConderyError"]
    for line in text.splitlines():
        if found := re.match(r"    ((?:│   |    )*)[├└]── (\w+(?:, \w+)*)(?:  |$)", line):
            depth = len(found[1]) // 4
            names = found[2].split(", ")
            assert not drawn.keys() & set(names), line
            drawn |= dict.fromkeys(names, above[depth])
            above[depth + 1 :] = names[:1]
    return drawn


@pytest.mark.parametrize("package", PACKAGES)
def test_the_drawing_is_the_tree(package: str) -> None:
    drawing = importlib.import_module(f"{package}.errors").__doc__
    assert drawing
    classes = {
        each.__name__: each.__base__.__name__
        for each in all_errors().values()
        if each.__module__.partition(".")[0] == package and each.__base__
    }
    assert drawn_in(drawing) == classes
