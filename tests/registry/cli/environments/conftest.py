"""What tests of environments on the command line share: a small channel, and a directory with settings."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.registry.cli.conftest import Run
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel

PACKAGES = [Package("one"), Package("two"), Package("two", "2.0"), Package("three", depends=["one"])]


@pytest.fixture(scope="session")
def small_channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    return asyncio.run(make_channel(tmp_path_factory.mktemp("channel"), PACKAGES))


@dataclass(frozen=True)
class Shell:
    """A directory with a settings file, in which commands run in this process."""

    directory: Path
    channel: str
    condery: Run

    def __call__(self, line: str, *, code: int = 0, stdin: str = "") -> Any:
        done = self.condery(*line.split(), stdin=stdin)
        assert done.exit_code == code, (line, done.stdout, done.stderr)
        return done

    def json(self, line: str) -> Any:
        return json.loads(self(f"{line} --json").stdout)

    def write(self, name: str, *dependencies: str, file: str | None = None) -> str:
        """Write an environment file; return its name."""
        path = self.directory / (file or f"{name}.yaml")
        document = {"name": name, "channels": [self.channel], "dependencies": list(dependencies)}
        path.write_text(json.dumps(document))
        return path.name


@pytest.fixture
def shell(condery: Run, tmp_path: Path, small_channel: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name in ("CONDERY_SERVER", "CONDERY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # where logins are
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "condery.toml").write_text(
        f'data_directory = "data"\nchannels = ["{small_channel}"]\nbase = "scratch"\nworkers = 1\n'
        "repodata_refresh = 0\n"
    )
    return Shell(tmp_path, small_channel, condery)
