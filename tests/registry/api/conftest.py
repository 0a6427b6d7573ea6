"""A server process for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.builder.searching import record, write_repodata
from tests.support.registry.commands import run_line
from tests.support.registry.people import PASSWORD
from tests.support.server import Server


@pytest.fixture(scope="session")
def administered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose administrator is alice."""
    directory = tmp_path_factory.mktemp("administered")
    place = directory / "data"
    run_line(place, "user add alice", PASSWORD)
    run_line(place, "role bind */*=admin --user alice")
    channel = write_repodata(directory / "channel", record("numpy"), record("numba")).as_uri()
    # what is granted to anybody needs no credentials, whatever the description says
    options = (
        "--base",
        "scratch",
        "--workers",
        "1",
        "--channels",
        channel,
        "--anonymous-bindings",
        "none",
        "--login-attempts",
        "1000000",
    )
    server = Server(options, place, directory / "log")
    server.start()
    yield server
    server.kill()
