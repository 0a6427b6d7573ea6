"""Every command of docs/access.md works, in the order in which the page has them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.rooms import ROOT

Run = Callable[..., Any]

PAGE = (ROOT / "docs" / "access.md").read_text()
TASKS = PAGE.partition("## Ten usual tasks")[2].split("\n### ")[1:]
BLOCK = re.compile(r"(?:^    .*\n)+", re.MULTILINE)

NOT_GRANTED = {"condery explain-access carol environment::delete science/analysis"}


def test_there_are_ten_tasks() -> None:
    assert len(TASKS) == 10
    assert all(BLOCK.search(task) for task in TASKS)


def test_every_command_of_the_page_works(condery: Run, tmp_path: Path) -> None:
    settings = tmp_path / "condery.toml"
    settings.write_text(f'data_directory = "{tmp_path}/data"\n')
    done = 0
    for block in BLOCK.findall("".join(TASKS)):
        lines = [line.removeprefix("    ") for line in block.splitlines()]
        if lines[0] == "# condery.toml":
            settings.write_text(settings.read_text() + "\n".join(lines[1:]) + "\n")
            continue
        for line in lines:
            program, *arguments = shlex.split(line)
            assert program == "condery"
            ran = condery(*arguments, stdin="correct horse\n")
            assert ran.exit_code == (1 if line in NOT_GRANTED else 0), (line, ran.stdout, ran.stderr)
            done += 1
    assert done > 25
