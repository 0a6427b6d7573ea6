"""A server that is killed, or whose system calls fail, at every step of a push, mount, deletion or collection.

strace does it: it attaches to the running server and kills it at the n-th system call of a kind, or makes that call
fail. After a restart every push that was acknowledged is there and has its digest, nothing is there in part, and the
same push works.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registry.client import PATIENCE, QUIET, WORKED, Client, work
from tests.support.server import Server, StartServer
from tests.support.small_disk import small_disk
from tests.support.wide import WIDE

pytestmark = pytest.mark.services
STEPS = (1, 2, 3, 4, 5, 6, 7, 9, 11, 14) if WIDE else (1, 4)
"""At which call of a kind, counted for each thread; the last is more than one thread makes for what is pushed here."""
ERRORS = ("EIO", "ENOSPC")
FAILING = ("fsync", "fdatasync", "rename", "pwrite64")


@contextlib.contextmanager
def injecting(server: Server, what: str, tmp_path: Path) -> Iterator[None]:
    """strace on all threads of the server, doing `what` (strace(1), "Tampering")."""
    output = tmp_path / "strace"
    call = what.partition(":")[0]
    command = ["strace", "-f", "-p", str(server.process.pid), "-e", f"trace={call}", "-e", f"inject={what}"]
    with output.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while b"attached" not in output.read_bytes():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)


@pytest.fixture
def server(start_server: StartServer, tmp_path: Path) -> Iterator[Server]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if os.geteuid():
        pytest.skip("attaching strace to a process needs root")
    yield start_server(*QUIET, data_dir=tmp_path / "data")
    shutil.rmtree(tmp_path / "data", ignore_errors=True)


@pytest.mark.parametrize("call", ["fsync", "fdatasync", "rename", "pwrite64", "write", "unlink"])
def test_killed_at_every_step(server: Server, tmp_path: Path, call: str) -> None:
    client = Client(server)
    killed = 0
    for step in STEPS:
        with injecting(server, f"{call}:signal=SIGKILL:when={step}", tmp_path):
            with contextlib.suppress(OSError, http.client.HTTPException, KeyError):
                assert work(client, step) == WORKED
            if server.process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.process.wait(0.2)
        if server.process.poll() is None:
            break
        killed += 1
        server.kill()
        server.start()
        client.check()
        assert work(client, step) == WORKED
        client.check()
    assert killed, f"{call} never killed the server"


def test_calls_that_fail(server: Server, tmp_path: Path) -> None:
    client = Client(server)
    for number, call in enumerate(FAILING):
        for error in ERRORS if WIDE else ERRORS[number % 2 :][:1]:
            failed = 0
            for step in STEPS:
                # in repositories of their own: what was deleted in another one must not be there again
                own = 1000 * number + 100 * ERRORS.index(error) + step
                with injecting(server, f"{call}:error={error}:when={step}", tmp_path):
                    statuses = work(client, own)
                # what follows on something that failed may lack it; nothing is a defect of ours
                assert set(statuses) <= {201, 202, 404, 503, 507}, (call, error, statuses)
                failed += not set(statuses).isdisjoint({503, 507})
                client.check()
                assert work(client, own) == WORKED
                client.check()
            assert failed, f"{call} never failed with {error}"


def test_full_disk(start_server: StartServer, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=24) as disk:
        client = Client(start_server(*QUIET, data_dir=disk / "data"))
        full = 0
        for step in range(40):
            data = os.urandom(2 << 20)
            status = client.push_whole("a", data) if step % 2 else client.push_chunks("a", data)
            assert status in (201, 503, 507)
            full += status != 201
        assert full
        client.check()
        assert client.ask("GET", "/healthz")[0] == 200
        client.server.kill()
        client.server.start()
        client.check()
        client.server.kill()
