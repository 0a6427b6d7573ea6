"""conda-store's command line, each command as people run it."""

from __future__ import annotations

import pytest

from tests.clients.conda_store.conftest import PREFIX
from tests.support.conda_store import CondaStore
from tests.support.registry.people import PASSWORD

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_everybody_signs_in_in_their_own_way(command_line: CondaStore, prefix: str) -> None:
    nobody = CondaStore(command_line.server, prefix)
    assert "Authenticated False" in nobody.ask("info")
    alice = nobody.as_person("alice", PASSWORD)
    info = alice.ask("info")
    assert "Default namespace is alice" in info
    assert "Authenticated True" in info
    assert "environment::create" in info
    token = nobody.as_token(alice.ask("token"))
    assert "Authenticated True" in token.ask("info")
    assert "Default namespace is alice" in token.ask("info")


def test_a_wrong_password_and_a_wrong_token_are_refused(command_line: CondaStore) -> None:
    assert "403" in command_line.as_person("alice", "wrong").refused("info")
    assert command_line.as_token("nonsense").refused("info")


def test_a_token_is_limited_as_is_asked(command_line: CondaStore) -> None:
    alice = command_line.as_person("alice", PASSWORD)
    text = alice.ask("token", "--namespace", "team", "--expiration", "3600", "--permission", "team/*:viewer")
    info = command_line.as_token(text).ask("info")
    assert "environment::read" in info
    assert "environment::create" not in info


def test_a_token_for_more_than_ones_own_is_refused_with_the_reason(command_line: CondaStore) -> None:
    """The command shows the message of a 400, and a traceback for any other refusal."""
    alice = command_line.as_person("alice", PASSWORD)
    viewer = command_line.as_token(alice.ask("token", "--permission", "team/*:viewer"))
    for words in (["--permission", "team/*:admin"], ["--permission", "*/*:viewer"], ["--expiration", "4000000000"]):
        shown = viewer.refused("token", *words)
        assert "Traceback" not in shown, shown
        assert shown.strip()
