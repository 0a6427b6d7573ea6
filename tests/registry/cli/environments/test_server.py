"""The same commands at a running server: in a process of its own, with accounts."""

from __future__ import annotations

import pytest

from tests.support.registry.shell import Shell
from tests.support.server import Server, StartServer


@pytest.fixture
def server(start_server: StartServer, small_channel: str) -> Server:
    return start_server("--channels", small_channel, "--base", "scratch", "--workers", "1", "--repodata-refresh", "0")


def test_an_environment_is_made_at_a_server_and_shown(
    shell: Shell, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.write("app", "one")
    made = shell(f"env create app.yaml --server {server.address}")
    assert made.stdout == f"{server.address}/default/app:1\n"
    assert f"goes on at {server.address}" in made.stderr
    monkeypatch.setenv("CONDERY_SERVER", server.address)
    (listed,) = shell.json("env list")
    assert (listed["namespace"], listed["name"]) == ("default", "app")
    assert [each["id"] for each in shell.json("build list default/app")] == [1]
    assert not (shell.directory / "data").exists()
