"""What wrong passwords cost the pulls beside them: 50 a second, from one address and from many."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import psutil

from bench.row import Row
from bench.serving.load import in_turn, on_core, wrk
from bench.serving.pushing import Pusher

MOST_MEMORY = 256
"""MB by which the server may grow: two passwords are checked at a time, of 64 MiB each."""

A_SECOND = 50
SENDERS = 8
PASSWORD = "correct horse"

FROM = {"one address": (0.8, ["127.0.0.1"]), "250 addresses": (0.8, [f"127.0.1.{last}" for last in range(1, 251)])}
"""The share of the pulls that has to be left, and the senders of wrong passwords.

The one address is also that of the pulls. Of so many addresses none has to wait, so passwords are hashed all the time.
"""


def measure(*, short: bool = False) -> list[Row]:
    """All rows of this module; none if wrk is not installed."""
    if not shutil.which("wrk"):
        print("wrk is not installed: sign-ins are not measured")
        return []
    seconds, runs = (1, 1) if short else (10, 3)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory, _server(Path(directory)) as server:
        url = _push(server.port)
        for where, (must_keep, addresses) in FROM.items():
            memory = server.memory
            kept, alone = in_turn(
                [partial(_beside, server, addresses, url, seconds), partial(_pulls, url, seconds)], runs
            )
            name = f"pulls on 16 connections beside {A_SECOND} wrong passwords a second from {where}"
            grown = (server.memory - memory) / 1e6
            rows += [
                Row(name, kept, "requests/s", must_keep, "at least", "the same without", alone),
                Row(f"memory of the server after them, from {where}", grown, "MB", MOST_MEMORY, "at most"),
            ]
    return rows


class _Server:
    def __init__(self, port: int, process: int) -> None:
        self.port = port
        self._process = psutil.Process(process)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(self._process.memory_info().rss)


@contextlib.contextmanager
def _server(directory: Path) -> Iterator[_Server]:
    """A server that lets nobody do anything without signing in, on the first core."""
    password = directory / "password"
    password.write_text(PASSWORD)
    command = [*on_core(0), sys.executable, "-m", "registry.cli", "serve", "--port", "0", "--base", "scratch"]
    command += ["--public-url", "http://localhost", "--admin-password-file", str(password)]
    command += ["--data-dir", str(directory / "data"), "--workers", "1", "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            found = re.search(r"//\S+:(\d+)", process.stdout.readline())
            assert found, "the server did not start"
            yield _Server(int(found[1]), process.pid)
        finally:
            process.terminate()


def _push(port: int) -> str:
    """Push an image as the administrator; returns the URL of its manifest."""
    with Pusher(port, _basic("admin", PASSWORD)) as pusher:
        pusher.image("team/app", "v1", [b"layer"])
    return f"http://127.0.0.1:{port}/v2/team/app/manifests/v1"


def _pulls(url: str, seconds: int) -> float:
    """A second, by the administrator."""
    authorization = f"Authorization: {_basic('admin', PASSWORD)}"
    return wrk(url, "Requests/sec", connections=16, seconds=seconds, headers=[authorization])


def _beside(server: _Server, addresses: Sequence[str], url: str, seconds: int) -> float:
    with _wrong_passwords(server.port, addresses):
        return _pulls(url, seconds)


@contextlib.contextmanager
def _wrong_passwords(port: int, addresses: Sequence[str]) -> Iterator[None]:
    """Send wrong passwords while the block runs, one in two for the administrator, each on its own connection."""
    stopped = threading.Event()
    numbers = itertools.count()

    def send() -> None:
        while not stopped.wait(SENDERS / A_SECOND):
            number = next(numbers)
            address = (addresses[number % len(addresses)], 0)
            name = "admin" if number % 2 else f"user{number}"
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=address)
            with contextlib.closing(connection):
                connection.request("GET", "/v2/", headers={"Authorization": _basic(name, f"wrong {number}")})
                assert connection.getresponse().status in (401, 429, 503)

    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
