"""Principals are values: what is granted to one is found under another of the same name."""

from __future__ import annotations

import dataclasses

import pytest

from auth.principal import ANONYMOUS, Principal


def test_equal_names_are_one_principal() -> None:
    granted = {Principal("alice"): "pull", ANONYMOUS: "nothing"}
    assert granted[Principal("alice")] == "pull"
    assert granted[Principal("anonymous")] == "nothing"
    assert Principal("bob") not in granted


def test_nobody_becomes_another() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ANONYMOUS.name = "root"  # type: ignore[misc] # that it is refused is what is tested
