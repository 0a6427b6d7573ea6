"""One server for all clients of conda-store, with alice, who may do everything."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Window, window
from tests.support.conda_store import ClientUnavailable, CondaStore, install_command_line, interface_directory
from tests.support.npm_packages import NpmPackageUnavailable
from tests.support.registry.commands import run_line
from tests.support.registry.people import PASSWORD
from tests.support.server import Server

PREFIX = "/conda-store"


@pytest.fixture(scope="session")
def dist() -> Path:
    """The files of the web interface."""
    try:
        return interface_directory()
    except NpmPackageUnavailable as error:
        pytest.skip(f"the web interface cannot be had: {error}")


@pytest.fixture(scope="session")
def elsewhere(dist: Path) -> Iterator[str]:
    """The origin of another server that has the interface's files, as a JupyterLab with the extension has."""
    handler = functools.partial(_Quiet, directory=str(dist))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def store(
    tmp_path_factory: pytest.TempPathFactory, sample_channel: Path, dist: Path, elsewhere: str
) -> Iterator[Server]:
    """It trusts the pages of `elsewhere`."""
    directory = tmp_path_factory.mktemp("store")
    data = directory / "data"
    run_line(data, "user add alice", PASSWORD)
    run_line(data, "role bind */*=admin --user alice")
    flags = ["--channels", sample_channel.as_uri(), "--ui-directory", str(dist)]
    # on a server of this machine alone, anybody may do anything otherwise
    flags += ["--anonymous-bindings", "none"]
    flags += ["--api-prefix", PREFIX, "--api-origins", elsewhere]
    server = Server(tuple(flags), data, directory / "log")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def command_line(store: Server) -> CondaStore:
    """Signed in as nobody."""
    try:
        install_command_line()
    except ClientUnavailable as error:
        pytest.skip(f"the command line cannot be had: {error}")
    return CondaStore(store)


@pytest.fixture
async def opened() -> AsyncIterator[Window]:
    async with window() as opened:
        yield opened
