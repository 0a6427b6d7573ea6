"""`condery audit` on a store."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from auth.audit.event import AuditEvent
from auth.audit.log import append
from registry.cli.app import app
from storage.settings import StorageSettings
from storage.store import open_store

HOUR = 3600.0


async def fill(directory: Path) -> None:
    now = time.time()
    events = [
        AuditEvent("alice", "person", "manifest.push", "team/a", "allowed", time=now - 3 * HOUR),
        AuditEvent("bob", "person", "tag.delete", "team/b", "denied", client="192.0.2.7", time=now - HOUR),
        AuditEvent(
            "\x1b[2Jeve",
            "person",
            "manifest.push",
            f"other/{'c' * 200}",
            "denied",
            detail={"reason": "\nno", "more": 7},
            time=now,
        ),
    ]
    async with open_store(StorageSettings(data_directory=directory)) as store, store.database.writing() as connection:
        for event in events:
            await append(connection, event)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    asyncio.run(fill(tmp_path / "data"))
    return tmp_path / "data"


def run(directory: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["audit", "--data-dir", str(directory), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def names(directory: Path, *arguments: str) -> list[str]:
    return [each["principal"] for each in json.loads(run(directory, "--json", *arguments))["events"]]


def test_a_pipe_gets_a_whole_line_for_each_event(directory: Path) -> None:
    lines = [line.split("\t") for line in run(directory).splitlines()]
    assert [line[1] for line in lines] == ["\\x1b[2Jeve", "bob", "alice"]
    assert lines[0][2:] == ["", "manifest.push", f"other/{'c' * 200}", "denied", "reason=\\x0ano, more=7"]


def test_a_terminal_gets_a_table_that_cuts_off_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(directory)
    assert shown.count("c") >= 200
    assert "\u2026" not in shown
    assert "\x1b[2J" not in shown
    assert "more=7" in shown


def test_times_are_written_as_by_the_rest_api(directory: Path) -> None:
    for event in json.loads(run(directory, "--json"))["events"]:
        assert datetime.fromisoformat(event["time"]).tzinfo is not None


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--user", "bob"], ["bob"]),
        (["--action", "manifest.push", "--entity", "team/*"], ["alice"]),
        (["--denied", "--since", "2h", "--until", "30m"], ["bob"]),
        (["--since", "2000-01-01", "--until", "2001-01-01T00:00"], []),
    ],
)
def test_filters(directory: Path, arguments: list[str], found: list[str]) -> None:
    assert names(directory, *arguments) == found


def test_pages(directory: Path) -> None:
    first = json.loads(run(directory, "--json", "--limit", "2"))
    assert len(first["events"]) == 2
    assert names(directory, "--before", str(first["before"])) == ["alice"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "'yesterday' is neither a time"),
        (["--since", ""], "'' is neither a time"),
        (["--since", "1h", "--until", "2h"], "--since is not before --until"),
        (["--before", "0"], "--before"),
        (["--before", "99999999999999999999"], "--before"),
        (["--limit", "5000"], "--limit"),
    ],
)
def test_refuses_what_cannot_be(directory: Path, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["audit", "--data-dir", str(directory), *arguments])
    assert result.exit_code == 2
    assert said in result.output


def test_what_is_no_event_is_no_line_for_a_pipe(directory: Path) -> None:
    result = CliRunner().invoke(app, ["audit", "--data-dir", str(directory), "--user", "nobody"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no events\n")
