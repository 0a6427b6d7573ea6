"""Lists of accounts and tokens: whole words and lines for programs, and what fits for people."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
SHORT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
LONG_NAME = "a-name-of-a-person." * 3 + "end"

Run = Callable[..., Any]


@pytest.fixture
def run(condery: Run, tmp_path: Path) -> Run:
    def run(line: str) -> str:
        done = condery(*line.split(), "--data-dir", tmp_path / "data")
        assert done.exit_code == 0, done.stderr
        return str(done.stdout)

    run("user add bob --no-password")
    run("token create laptop --user bob --limit bob/app=viewer --limit bob/other=editor")
    return run


def show_at_terminal(data: Path, line: str, columns: int) -> list[str]:
    """The lines that a command writes to a terminal."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "registry.cli", *line.split(), "--data-dir", str(data)]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(command, stdin=end, stdout=end, env={**environment, "TERM": "xterm", "NO_COLOR": "1"})
    os.close(end)
    seen = b""
    try:
        while some := os.read(terminal, 10_000):
            seen += some
    except OSError:
        pass  # the terminal is at its end when the process is
    os.close(terminal)
    assert process.wait(60) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", seen.decode()).splitlines()


def test_a_program_reads_a_line_for_each_row(run: Run) -> None:
    [token] = json.loads(run("token list --json"))
    head, row = run("token list").splitlines()
    assert head.split()[:3] == ["id", "owner", "name"]
    assert row.split()[:3] == [token["id"], "bob", "laptop"]
    assert "bob/app=viewer, bob/other=editor" in row
    assert MOMENT.findall(row) == [token["created"], token["until"]]
    assert head.index("limits") == row.index("bob/app=viewer"), "columns are below their titles"
    run(f"user add {LONG_NAME} --no-password")
    assert [line.split()[0] for line in run("user list").splitlines()] == ["name", LONG_NAME, "bob"]


def test_people_see_whole_words_at_80_columns(run: Run, tmp_path: Path) -> None:
    [token] = json.loads(run("token list --json"))
    lines = show_at_terminal(tmp_path / "data", "token list", 80)
    assert max(map(len, lines)) <= 80
    assert f"id         {token['id']}" in lines
    assert "limits     bob/app=viewer, bob/other=editor" in lines
    lines = show_at_terminal(tmp_path / "data", "user list", 80)
    assert max(map(len, lines)) <= 80
    [row] = [line for line in lines if "bob" in line]
    assert SHORT.search(row), "in one line of a table"
    assert not MOMENT.search(row)
    lines = show_at_terminal(tmp_path / "data", "token list", 250)
    assert [line for line in lines if token["id"] in line and "bob/app=viewer, bob/other=editor" in line]


def test_what_was_given_is_told_whole_if_it_is_wider_than_the_terminal(run: Run, tmp_path: Path) -> None:
    run(f"user add {LONG_NAME} --no-password")
    lines = show_at_terminal(tmp_path / "data", "user list", 40)
    assert f"name          {LONG_NAME}" in lines
    assert "name          bob" in lines
