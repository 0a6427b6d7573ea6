"""`condery gc` is killed at system calls of every kind, beside a server that goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.digest import Digest
from tests.support.registry.client import QUIET, Client
from tests.support.registry.commands import files, report
from tests.support.registry.pushes import image_manifest
from tests.support.server import Server, StartServer
from tests.support.wide import WIDE

pytestmark = pytest.mark.services

STEPS = (1, 2, 3, 4, 6, 9) if WIDE else (1, 4)
"""At which call of a kind, counted for each thread."""

AT_ONCE = ("--gc-grace", "0", "--untagged-for", "0.001", "--upload-seconds", "0.001")


@pytest.fixture
def server(start_server: StartServer, tmp_path: Path) -> Server:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    return start_server(*QUIET, "--gc-interval", "0", data_dir=tmp_path / "data")


def push(client: Client, repository: str, layers: int) -> bytes:
    data = [os.urandom(5_000) for _ in range(layers)]
    body = image_manifest(b"{}", data)
    for each in (b"{}", *data):
        assert client.push_whole(repository, each) == 201
    assert client.push_manifest(repository, "latest", body) == 201
    return body


def make_garbage(client: Client) -> None:
    """An image that is deleted, a blob that no manifest names, and a session that goes on no more."""
    other = Client(client.server)
    assert other.delete("gone", Digest.of(push(other, "gone", 3))) == 202
    assert other.push_whole("kept", os.urandom(5_000)) == 201
    assert other.ask("POST", "/v2/gone/blobs/uploads/")[0] == 202


def killed(server: Server, call: str, step: int) -> bool:
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}"]
    command += ["-e", f"inject={call}:signal=SIGKILL:when={step}"]
    command += [sys.executable, "-B", "-m", "registry.cli", "gc", "--data-dir", str(server.data_dir), *AT_ONCE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64", "unlink"] if WIDE else ["fdatasync", "unlink"])
def test_killed_at_every_step(server: Server, call: str) -> None:
    client, deaths = Client(server), 0
    push(client, "kept", 2)
    for step in STEPS:
        make_garbage(client)
        deaths += killed(server, call, step)
        client.check()
        assert report(server.data_dir, "verify")["damage"] == []
    assert deaths, f"{call} never killed the collection"
    # what they left, and what is left of the time between the rows and the bytes
    report(server.data_dir, "gc", *AT_ONCE)
    client.check()
    assert len(files(server.data_dir)) == 3
    assert report(server.data_dir, "gc", "--dry-run", *AT_ONCE)["steps"]["blobs"]["count"] == 0
