"""One server for all clients of conda-store, with alice, who may do everything."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.support.chromium import Window, window
from tests.support.conda_store import ClientUnavailable, CondaStore, install_command_line, interface_directory
from tests.support.npm_packages import NpmPackageUnavailable
from tests.support.registry.commands import run_line
from tests.support.registry.people import PASSWORD
from tests.support.server import Server

PREFIX = "/conda-store"
NAMESPACE = "alice"


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


class Store:
    """What the command line has no command for, by the requests that it would send."""

    def __init__(self, server: Server) -> None:
        self._url = f"http://localhost:{server.port}/api/v1/"
        self._session = requests.Session()
        self._session.auth = ("alice", PASSWORD)

    def send(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        answer = self._session.request(method, self._url + path, json=document)
        assert answer.status_code == 200, (method, path, answer.text)
        return answer.json()

    def make(self, name: str, dependencies: list[str], namespace: str = NAMESPACE) -> int:
        """Have an environment built; the id of its build."""
        written = yaml.safe_dump({"name": name, "dependencies": dependencies})
        made = self.send("POST", "specification/", {"namespace": namespace, "specification": written})
        return int(made["data"]["build_id"])

    def wait(self, build: int) -> None:
        """Until a build is complete."""
        while (status := self.send("GET", f"build/{build}/")["data"]["status"]) != "COMPLETED":
            assert status in ("QUEUED", "BUILDING"), status
            time.sleep(0.2)


@pytest.fixture(scope="session")
def made(store: Server) -> Store:
    return Store(store)


@pytest.fixture
async def opened() -> AsyncIterator[Window]:
    async with window() as opened:
        yield opened
