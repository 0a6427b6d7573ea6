"""One server over the sample channel for all clients, and each client with a storage of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.programs import Containerd, Crane, Docker, Oras, OrasCommand, Podman, PythonDocker, Skopeo
from tests.support.server import Server


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, sample_channel: Path) -> Iterator[Server]:
    """A server whose one channel is the sample channel; its images are made once for all clients."""
    directory = tmp_path_factory.mktemp("served")
    server = Server(("--channels", sample_channel.as_uri()), directory / "data", directory / "log")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has nothing and makes nothing: what is in it was pushed."""
    directory = tmp_path_factory.mktemp("empty")
    server = Server(("--base", "scratch", "--workers", "1"), directory / "data", directory / "log")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def docker() -> Docker:
    return programs.docker()


@pytest.fixture(scope="session")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with programs.containerd(tmp_path_factory.mktemp("containerd")) as client:
        yield client


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    with programs.podman() as client:
        yield client


@pytest.fixture(scope="session")
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> Skopeo:
    programs.need("skopeo")
    return Skopeo(tmp_path_factory.mktemp("skopeo"))


@pytest.fixture(scope="session")
def oras() -> Oras:
    return Oras()


@pytest.fixture(scope="session")
def oras_command(tmp_path_factory: pytest.TempPathFactory) -> OrasCommand:
    return programs.oras_command(tmp_path_factory.mktemp("oras"))


@pytest.fixture(scope="session")
def crane() -> Crane:
    return programs.crane()


@pytest.fixture(scope="session")
def python_docker() -> PythonDocker:
    return PythonDocker()
