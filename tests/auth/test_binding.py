"""What a binding matches, and what it does not."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from auth.binding import Binding, check_case, check_pattern, parse_binding
from auth.role import EDITOR, VIEWER, Roles
from auth.settings import AccessSettings
from auth.sign_in.rules import parse_rule

MATCHES = [
    ("team/*", "team/analysis", True),
    ("team/*", "team/deep/er", True),
    ("team/*", "team", True),
    ("team/*", "team2/analysis", False),
    ("team/*", "teamx", False),
    ("team/analysis", "team/analysis", True),
    # conda-store's: a binding on an environment was one on the whole namespace
    ("team/analysis", "team", False),
    ("team/a*", "team", False),
    ("*/analysis", "team/analysis", True),
    ("*/analysis", "team", False),
    # a namespace has no slash in it
    ("*/analysis", "team/other/analysis", False),
    ("*/*", "team/analysis", True),
    ("*/*", "team", True),
    ("t*m/a*s", "team/analysis", True),
    ("t*m/a*s", "team/analysisx", False),
    # no other wildcard
    ("te_m/x", "team/x", False),
    ("te?m/x", "team/x", False),
    ("te.m/x", "team/x", False),
    ("team/ab*ba", "team/aba", False),
    ("team/ab*ba", "team/abba", True),
]


@pytest.mark.parametrize(("pattern", "entity", "matches"), MATCHES)
def test_matches(pattern: str, entity: str, matches: bool) -> None:
    assert Binding(pattern, VIEWER).matches(entity) is matches


def test_one_star_is_everything() -> None:
    assert check_pattern("*") == "*/*"


@pytest.mark.parametrize("text", ["", "team", "/x", "team/", "te am/x", "team/x\n", "ümlaut/x", "a/" + "x" * 600, "**"])
def test_refuses_what_is_no_entity(text: str) -> None:
    with pytest.raises(ValueError, match="is not an entity"):
        check_pattern(text)


def test_nothing_is_granted_on_what_no_name_can_be() -> None:
    for pattern, meant in (("TEAM/*", "team/*"), ("team/App", "team/app"), ("*/X*", "*/x*")):
        with pytest.raises(ValueError, match=f"names have no capitals; did you mean '{re.escape(meant)}'"):
            check_case(pattern)
    assert check_case("te-m/a_b.c*") == "te-m/a_b.c*"
    with pytest.raises(ValidationError, match="did you mean 'public/"):
        AccessSettings(anonymous_bindings=("Public/*=viewer",))
    with pytest.raises(ValueError, match="did you mean 'team/"):
        parse_rule('repository == "org/app" -> viewer on Team/*')


def test_everything_is_written_as_it_is_read() -> None:
    assert str(parse_binding("*/*=admin", Roles())) == "*=admin"
    assert str(parse_binding("team/*=admin", Roles())) == "team/*=admin"


def test_reads_bindings() -> None:
    assert parse_binding("team/*=developer", Roles()) == Binding("team/*", EDITOR)
    assert parse_binding("team/x=1=viewer", Roles()) == Binding("team/x=1", VIEWER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("team/*", "is not a binding such as"),
        ("team/*=owner", "'owner' is not a role; the roles here are admin, developer, editor, viewer"),
        ("team=viewer", "is not an entity"),
    ],
)
def test_refuses_what_is_no_binding(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_binding(text, Roles())
