"""What tests of environments on the command line share: a small channel, and a directory with settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel
from tests.support.registry.shell import Shell

PACKAGES = [Package("one"), Package("two"), Package("two", "2.0"), Package("three", depends=["one"])]


@pytest.fixture(scope="session")
def small_channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    return asyncio.run(make_channel(tmp_path_factory.mktemp("channel"), PACKAGES))


@pytest.fixture
def shell(condery: Callable[..., Any], tmp_path: Path, small_channel: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name in ("CONDERY_SERVER", "CONDERY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # where logins are
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "condery.toml").write_text(
        f'data_directory = "data"\nchannels = ["{small_channel}"]\nbase = "scratch"\nworkers = 1\n'
        "repodata_refresh = 0\n"
    )
    return Shell(tmp_path, small_channel, condery)
