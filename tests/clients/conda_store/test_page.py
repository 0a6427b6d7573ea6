"""The commands of docs/rest-api.md about conda-store's clients do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from registry.http.settings import HttpSettings
from tests.support.conda_store import COMMAND_LINE, INTERFACE, CondaStore
from tests.support.registry.people import PASSWORD
from tests.support.rooms import ROOT

pytestmark = pytest.mark.clients

PAGE = (ROOT / "docs/rest-api.md").read_text()
COMMANDS = re.findall(r"^    (.+)$", PAGE.partition("## Clients of conda-store")[2], re.MULTILINE)


def test_it_installs_what_is_tested() -> None:
    assert f"pip install {COMMAND_LINE}" in COMMANDS
    assert f"npm install --ignore-scripts {INTERFACE}" in COMMANDS


def test_the_command_line_signs_in_as_it_says(command_line: CondaStore, tmp_path: Path) -> None:
    token = command_line.as_person("alice", PASSWORD).ask("token")
    found = []
    for line in COMMANDS:
        if not line.endswith("conda-store info"):
            continue
        words: dict[str, str] = dict(re.findall(r"(CONDA_STORE_\w+)=(\S+)", line))
        filled = {name: value.replace("SECRET", PASSWORD).replace("TOKEN", token) for name, value in words.items()}
        found.append("Authenticated True" in CondaStore(command_line.server, sign_in=filled).ask("info"))
    assert found == [False, True, True]


def test_its_flags_are_settings() -> None:
    flags = {flag for line in COMMANDS if line.startswith("condery serve") for flag in re.findall(r"--([\w-]+)", line)}
    assert flags == {"ui-directory", "api-prefix", "api-origins"}
    assert {flag.replace("-", "_") for flag in flags} <= set(HttpSettings.model_fields)
