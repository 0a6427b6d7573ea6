"""A channel, and a solver that may use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from tests.support.builder.packages import Package
from tests.support.builder.solving import ANY_CHANNEL, DAY, make_channel
from tests.support.servers.channel_server import ChannelServer


@pytest.fixture
async def channel(tmp_path: Path) -> Path:
    """An application over a library of two versions, a dependency nobody has, and one on a newer glibc."""
    return await make_channel(
        tmp_path / "channel",
        Package("app", depends=["lib >=1", "python"], noarch="python"),
        Package("lib", version="1.0", timestamp=DAY * 18_000),
        Package("lib", version="2.0", build="cuda_0", timestamp=DAY * 19_000),
        Package("python", version="3.12.1", python_site_packages_path="lib/python3.12/site-packages", depends=["pip"]),
        Package("pip", noarch="python", depends=["python"]),
        Package("old-app", depends=["lib <2"]),
        Package("broken", depends=["nothing-has-this"]),
        Package("modern", depends=["__glibc >=2.40"]),
        Package("gpu", depends=["__cuda >=12"]),
    )


@pytest.fixture
async def server(channel: Path) -> AsyncIterator[ChannelServer]:
    async with ChannelServer(channel) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> SolverSettings:
    return SolverSettings(tmp_path / "repodata", ANY_CHANNEL, seconds=30, refresh=0)


@pytest.fixture
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What this process logs meanwhile, what the solver's process says included."""
    with structlog.testing.capture_logs() as events:
        yield events


@pytest.fixture
async def solver(settings: SolverSettings) -> AsyncIterator[Solver]:
    async with Solver(settings) as running:
        yield running
