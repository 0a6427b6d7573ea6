"""The table of errors and answers."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import builder
import storage
from builder.errors import BuilderError, TooManyBuilds, Unsatisfiable
from registry.answers import ANSWERS, answer_of, error_response
from storage.errors import ConderyError

FAMILIES = {"storage", "builder", "registry.errors"}
"""Where errors come from that a request can meet; those of settings, the start and the demo are never answered."""


def subclasses(of: type[ConderyError]) -> Iterator[type[ConderyError]]:
    for each in of.__subclasses__():
        yield each
        yield from subclasses(each)


def all_errors() -> list[type[ConderyError]]:
    for package in (storage, builder):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if ".migrations" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return [
        each
        for each in subclasses(ConderyError)
        if each.__module__ in FAMILIES or each.__module__.split(".")[0] in FAMILIES - {"registry.errors"}
    ]


def test_every_error_has_an_answer() -> None:
    errors = all_errors()
    assert len(errors) > 25
    assert [each for each in errors if answer_of(each) is None] == []


def test_what_is_wrong_with_a_build_is_told_as_404() -> None:
    """Nobody shows the message of a 5xx; podman retries 400 three times before it does."""
    for each in all_errors():
        if issubclass(each, BuilderError):
            answer = answer_of(each)
            assert answer is not None
            # asking again is the right thing to do for the one, and for no other
            assert answer.status == (429 if each is TooManyBuilds else 404), each


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=lambda answer: answer.code)
def test_codes_are_what_the_specification_allows(answer: tuple[int, str]) -> None:
    assert answer[1].replace("_", "").isupper()
    assert 400 <= answer[0] <= 599


def test_each_form_tells_the_error() -> None:
    error = Unsatisfiable("linux-64", "a needs b")
    assert error_response("distribution", error).body == (
        b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"cannot be solved for linux-64: a needs b","detail":null}]}'
    )
    assert error_response("rest", error).body == (
        b'{"status":"error","code":"MANIFEST_UNKNOWN","message":"cannot be solved for linux-64: a needs b"}'
    )
