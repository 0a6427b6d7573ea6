"""The tree of errors that the module draws is the tree of its classes."""

from __future__ import annotations

import re

from storage import errors
from storage.errors import ConderyError


def test_the_drawing_is_the_tree() -> None:
    assert errors.__doc__
    drawn: dict[str, str] = {"ConderyError": ""}
    above = ["ConderyError"]
    for line in errors.__doc__.splitlines():
        if found := re.match(r"    ((?:│   |    )*)[├└]── (\w+(?:, \w+)*)(?:  |$)", line):
            depth = len(found[1]) // 4
            names = found[2].split(", ")
            drawn |= dict.fromkeys(names, above[depth])
            above[depth + 1 :] = names[:1]
    classes = {
        name: each.__base__.__name__
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, ConderyError) and each is not ConderyError and each.__base__
    }
    assert drawn == {"ConderyError": "", **classes}
