"""What `condery login` sends to a server of this machine goes through no proxy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import StartServer
from tests.support.servers.outer_proxy import outer_proxy

Run = Callable[..., Any]
PASSWORD = "correct horse"


def test_a_password_and_a_token_for_this_machine(
    start_server: StartServer, condery: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, file = tmp_path / "data", tmp_path / "auth.json"
    assert condery("user", "add", "alice", "--admin", "--data-dir", data, stdin=PASSWORD).exit_code == 0
    server = start_server(data_dir=data)
    with outer_proxy(monkeypatch) as proxy:
        for host in ("localhost", "127.0.0.1"):
            address = f"{host}:{server.port}"
            done = condery("login", address, "-u", "alice", "--file", file, stdin=PASSWORD)
            assert done.exit_code == 0, done.stderr
            assert condery("logout", address, "--file", file).exit_code == 0
        assert json.loads(file.read_text()) == {"auths": {}}
        assert proxy.asked == []
        other = "http://registry.example.org:5000"
        done = condery("login", other, "--insecure", "-u", "alice", "--file", file, stdin=PASSWORD)
        assert "says 418" in done.stderr
        assert proxy.asked == [f"{other}/api/v1/token/"]
