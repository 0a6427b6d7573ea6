"""conda-store's dry solve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.conda_store import CondaStore
from tests.support.registry.people import PASSWORD

pytestmark = pytest.mark.clients


def test_it_solves_a_file_and_builds_nothing(command_line: CondaStore, tmp_path: Path) -> None:
    alice = command_line.as_person("alice", PASSWORD)
    file = tmp_path / "environment.yaml"
    file.write_text("name: solved\nchannels: []\ndependencies: [python=3.*, tzdata]\n")
    found = {each["name"]: each for each in json.loads(alice.ask("solve", str(file), "--output", "json"))}
    assert {"python", "tzdata"} <= found.keys()
    assert found["python"]["version"].startswith("3.")
    assert found["python"]["size"].endswith("B")
    assert "Total Size" in alice.ask("solve", str(file))
    assert "solved" not in alice.ask("list", "environment")


def test_whoever_may_solve_nothing_gets_no_solve(command_line: CondaStore, tmp_path: Path) -> None:
    file = tmp_path / "environment.yaml"
    file.write_text("name: solved\nchannels: []\ndependencies: [tzdata]\n")
    assert command_line.refused("solve", str(file))
