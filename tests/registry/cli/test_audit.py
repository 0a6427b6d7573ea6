"""`condery audit` on a store."""

from __future__ import annotations

import asyncio
import json
import time
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
        AuditEvent("\x1b[2Jeve", "person", "manifest.push", "other/c", "denied", time=now),
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


def test_shows_the_newest_first(directory: Path) -> None:
    lines = run(directory).splitlines()
    assert [name for line in lines for name in ("alice", "bob", "eve") if name in line] == ["eve", "bob", "alice"]
    assert "\x1b[2J" not in "".join(lines)


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


def test_refuses_what_is_no_time(directory: Path) -> None:
    result = CliRunner().invoke(app, ["audit", "--data-dir", str(directory), "--since", "yesterday"])
    assert result.exit_code == 2
    assert "'yesterday' is neither a time" in result.output
