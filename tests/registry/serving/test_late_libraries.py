"""What a server for its own machine has in memory: no library that only signing in or other registries take."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import psutil

from tests.support.registry.client import QUIET, Client
from tests.support.registry.pushes import image_manifest
from tests.support.server import StartServer

LATE = ("argon2", "cryptography", "charset_normalizer")
"""Packages with compiled modules, which the kernel lists: for passwords, for tokens, and what oras needs."""


def loaded(pid: int) -> set[str]:
    """Those of LATE that the process has in memory."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return {name for name in LATE if f"/{name}/" in maps or f"/_{name}_cffi_bindings/" in maps}


def test_a_server_that_nobody_signs_in_to_imports_nothing_for_that(start_server: StartServer) -> None:
    client = Client(start_server(*QUIET))
    server = client.server.process.pid
    for blob in (b"{}", b"layer"):
        assert client.push_whole("team/app", blob) == 201
    assert client.push_manifest("team/app", "v1", image_manifest(b"{}", [b"layer"])) == 201
    for path in ("/v2/", "/v2/_catalog", "/v2/team/app/tags/list", "/v2/team/app/manifests/v1", "/healthz"):
        assert client.ask("GET", path)[0] == 200
    processes = [server, *(each.pid for each in psutil.Process(server).children(recursive=True))]
    assert {pid: found for pid in processes if (found := loaded(pid))} == {}

    _add_person(client.server.data_dir, "alice", "correct horse")
    basic = "Basic " + base64.b64encode(b"alice:correct horse").decode()
    assert client.ask("GET", "/v2/", Authorization=basic)[0] == 200
    assert loaded(server) == {"argon2"}
    assert client.ask("GET", "/token?scope=repository:team/app:pull", Authorization=basic)[0] == 200
    assert loaded(server) == {"argon2", "cryptography"}


def _add_person(data: Path, name: str, password: str) -> None:
    command = [sys.executable, "-m", "registry.cli", "user", "add", name, "--data-dir", str(data)]
    subprocess.run(command, check=True, input=password, text=True, capture_output=True)
