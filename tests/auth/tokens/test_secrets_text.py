"""Texts of access tokens: told from all other text, and never guessed."""

from __future__ import annotations

import re
import zlib

import pytest

from auth.tokens import secrets_text
from auth.tokens.secrets_text import PREFIX, hash_of, is_access_token, new_access_token

# made by this version: what is out there must be recognised by all later ones
MADE = "condery_r85jFRHiCdb2lqkGIL4pYDxA58JI5P3Uj2OYLkRy1tW8Ii"


def test_a_token_has_its_form_and_its_checksum() -> None:
    tokens = {new_access_token() for _ in range(200)}
    assert len(tokens) == 200
    for token in tokens:
        assert re.fullmatch(r"condery_[0-9A-Za-z]{46}", token)
        assert is_access_token(token)


def test_one_that_is_out_there_is_recognised() -> None:
    assert is_access_token(MADE)


@pytest.mark.parametrize("place", range(len(PREFIX), len(MADE)))
def test_no_character_can_be_changed(place: int) -> None:
    other = "0" if MADE[place] != "0" else "1"
    assert not is_access_token(MADE[:place] + other + MADE[place + 1 :])


@pytest.mark.parametrize("text", ["", PREFIX, MADE[:-1], MADE + "0", MADE + "\n", " " + MADE, MADE.upper(), "é" * 54])
def test_what_is_no_token_is_none(text: str) -> None:
    assert not is_access_token(text)


def test_a_short_checksum_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zlib, "crc32", lambda _: 61)
    assert secrets_text._checksum("whatever") == "00000z"


def test_a_hash_tells_nothing_and_is_always_the_same() -> None:
    assert hash_of(MADE) == hash_of(MADE)
    assert len(hash_of(MADE)) == 64
    assert MADE not in hash_of(MADE)
