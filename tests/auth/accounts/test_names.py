"""What accounts, groups and namespaces may be called."""

from __future__ import annotations

import pytest

from auth.accounts.names import MOST_CHARACTERS, Names, is_name, near_names
from auth.errors import NameUnfit

NAMES = Names("on-demand")


@pytest.mark.parametrize("name", ["a", "alice", "a1", "0", "team-a", "a.b_c-d", "x" * MOST_CHARACTERS, "admin", "root"])
def test_takes(name: str) -> None:
    assert is_name(name)
    assert NAMES.check("an account", name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "names are parts of a-z and 0-9"),
        ("Alice", "did you mean 'alice'?"),
        ("a b", "names are parts of"),
        ("a/b", "names are parts of"),
        ("-a", "names are parts of"),
        ("a--b", "names are parts of"),
        ("a..b", "names are parts of"),
        ("a%", "names are parts of"),
        ("a*", "names are parts of"),
        ("a\n", "U+000A"),
        ("a\0", "U+0000"),
        ("a\x1b[31m", "U+001B"),
        ("alice\u200b", "U+200B ZERO WIDTH SPACE"),
        ("\u202ecila", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        # they look like a, i and 1
        ("\u0430lice", "U+0430 CYRILLIC SMALL LETTER A"),
        ("al\u0456ce", "U+0456 CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I"),
        ("user\uff11", "U+FF11 FULLWIDTH DIGIT ONE"),
        ("user\u0661", "U+0661 ARABIC-INDIC DIGIT ONE"),
        ("\u212aate", "U+212A KELVIN SIGN"),
        ("\ud800", "U+D800"),
        ("x" * (MOST_CHARACTERS + 1), "longer than 64 characters"),
        ("x" * 1_000_000, "longer than 64 characters"),
    ],
)
def test_refuses(name: str, reason: str) -> None:
    assert not is_name(name)
    with pytest.raises(NameUnfit) as raised:
        NAMES.check("a group", name)
    assert reason in str(raised.value)
    assert len(str(raised.value)) < 500
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "name", ["on-demand", "mirror", "default", "filesystem", "anonymous", "operator", "v2", "token", "api"]
)
def test_names_of_the_server_are_nobodys(name: str) -> None:
    for what in ("an account", "a group"):
        with pytest.raises(NameUnfit, match="the server uses it itself"):
            NAMES.check(what, name)


def test_namespaces_that_all_share_can_be_made() -> None:
    assert NAMES.check("a namespace", "default") == "default"
    for name in ("on-demand", "mirror", "anonymous"):
        with pytest.raises(NameUnfit):
            NAMES.check("a namespace", name)


def test_who_was_meant() -> None:
    assert near_names("Alcie", ["alice", "bob"]) == ["alice"]
    assert near_names("x" * 1_000_000, ["alice", "bob"]) == []
