"""What pages about access say in passing: commands that there are, with these options, and settings that load."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from registry.settings.loading import load
from tests.registry.cli.conftest import Run
from tests.support.rooms import ROOT

PAGES = ("access.md", "signing-in.md", "browser-sign-in.md", "workload-identity.md", "policy.md", "security.md")
COMMAND = re.compile(r"(?:^    |`)(condery [a-z][^`#]*?)(?: +#.*)?(?:`|$)", re.MULTILINE)


def commands_of(page: str) -> list[list[str]]:
    text = (ROOT / "docs" / page).read_text()
    return [shlex.split(command)[1:] for command in COMMAND.findall(text) if "|" not in command]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_is_there(condery: Run, page: str) -> None:
    """With its options. That those in blocks work is tested where their page is."""
    for words in commands_of(page):
        path: list[str] = []
        help_text = condery("--help").stdout
        while words and "Commands" in help_text and re.search(rf"^\W*{re.escape(words[0])}\s", help_text, re.MULTILINE):
            path.append(words.pop(0))
            help_text = condery(*path, "--help").stdout
            if "--help-settings" in help_text:
                help_text = condery(*path, "--help-settings").stdout
        assert path, (page, words)
        for option in (word for word in words if word.startswith("-")):
            assert re.search(rf"(?<!\S){re.escape(option.partition('=')[0])}\b", help_text), (page, path, option)


def test_some_commands_are_found() -> None:
    assert ["user", "passwd", "admin"] in commands_of("access.md")
    assert len(commands_of("access.md")) > 25
    assert ["user", "sign-out"] in commands_of("browser-sign-in.md")


def blocks_of(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)])
def test_the_settings_of_a_page_load(tmp_path: Path, page: str) -> None:
    """A later block says what is otherwise than in the first one."""
    first, *others = map(tomllib.loads, blocks_of(page))
    for block in (first, *others):
        loaded = load({**first, **block}, write_empty(tmp_path))
        for name, value in block.items():
            [section] = [
                each for each in type(loaded.settings).model_fields if hasattr(getattr(loaded.settings, each), name)
            ]
            found = getattr(getattr(loaded.settings, section), name)
            assert (list(found) if isinstance(value, list) else str(found)) == value, name


def write_empty(directory: Path) -> Path:
    path = directory / "condery.toml"
    path.write_text("")
    return path
