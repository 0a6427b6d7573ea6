"""Strangers flood a real server with new names that never end: whoever signs in gets their image all the same.

Everything here is the order of events: no build of the flood ends before the channel lets it, and each of them is
under way when somebody signed in asks.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel
from tests.support.server import Server, StartServer
from tests.support.servers.channel_server import ChannelServer, in_a_thread

ROOT = "conda-store-dynamic"
PASSWORD = "correct horse"
ANN = {"Authorization": "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()}
NAMES = 60
JOINED = f"flood{NAMES - 1}"
"""The name that is last in the line of the flood, and that somebody signed in asks for too."""
PATIENCE = 120.0
"""Seconds after which what is waited for does not come any more."""


def pull(server: Server, name: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """What a client gets, however long the server takes to end its answer."""
    path = f"/v2/{ROOT}/{name}/manifests/latest"
    with contextlib.closing(HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)) as connection:
        connection.request("GET", path, headers={"Accept": "application/vnd.oci.image.index.v1+json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()


@dataclass
class Flood:
    """A server under a flood: every stranger waits, and no archive of theirs has come."""

    server: Server
    channel: ChannelServer
    strangers: list[Future[tuple[int, bytes]]]

    def ended(self) -> int:
        return sum(each.done() for each in self.strangers)

    def asked_for(self) -> set[str]:
        """The names of the flood whose archives were requested by now."""
        return {held.path for held in self.channel.holds if held.reached.is_set()}

    def select(self, query: str) -> list[tuple[str, ...]]:
        with contextlib.closing(sqlite3.connect(self.server.data_dir / "condery.sqlite", timeout=30)) as database:
            return list(database.execute(query))

    def join(self, threads: ThreadPoolExecutor, names: Sequence[str]) -> None:
        """A stranger more for each name; when all are solved, they wait for their archives in this order."""
        for name in names:
            sender = {"X-Forwarded-For": f"203.0.113.{len(self.strangers)}"}
            self.strangers.append(threads.submit(pull, self.server, name, sender))
        until(lambda: self.ended() or len(self.select("SELECT key FROM lock")) == len(self.strangers))
        assert self.ended() == 0


def add_ann(data: Path) -> None:
    for line, stdin in (("user add ann", PASSWORD), (f"role bind {ROOT}/*=editor --user ann", "")):
        command = [sys.executable, "-m", "registry.cli", *line.split(), "--data-dir", str(data)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def until(condition: Callable[[], object]) -> None:
    pause, ends = threading.Event(), time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, "it does not come any more"
        pause.wait(0.05)


@pytest.fixture
def flood(start_server: StartServer, tmp_path: Path) -> Iterator[Flood]:
    names = [f"flood{number}" for number in range(NAMES)]
    packages = [Package(name, files={"share/a": File(name.encode())}) for name in [*names, "anns", "others"]]
    asyncio.run(make_channel(tmp_path / "channel", packages))
    add_ann(tmp_path / "data")
    channel = ChannelServer(tmp_path / "channel")
    for name in names:
        channel.hold(f"/{name}-1.0-0.conda")
    with in_a_thread(channel), ThreadPoolExecutor(NAMES + 2) as threads:
        flags = (
            "--base", "scratch", "--workers", "1", "--downloads", "1", "--trusted-proxies", "127.0.0.1",
            "--channels", channel.url, "--anonymous-bindings", f"{ROOT}/*=editor",
        )  # fmt: skip
        server = start_server(*flags, data_dir=tmp_path / "data")
        running = Flood(server, channel, [])
        try:
            for some in ([name for name in names if name != JOINED], [JOINED]):
                running.join(threads, some)
            until(lambda: running.ended() or running.asked_for())
            assert running.ended() == 0
            yield running
        finally:
            for held in channel.holds:
                held.released.set()
            for each in running.strangers:
                each.exception(PATIENCE)


def test_flood_of_names_a_signed_in_pull_gets_its_image_meanwhile(flood: Flood) -> None:
    status, body = pull(flood.server, "anns", ANN)
    assert status == 200, body
    assert flood.ended() == 0
    assert len(flood.select("SELECT id FROM build WHERE ended IS NULL")) == NAMES
    assert not any(held.released.is_set() for held in flood.channel.holds)
    for held in flood.channel.holds:
        held.released.set()
    # nobody's pull was lost for it
    assert {each.result(PATIENCE)[0] for each in flood.strangers} == {200}


def test_flood_of_names_a_signed_in_pull_at_another_process_lifts_one_of_them(
    flood: Flood, start_server: StartServer
) -> None:
    other = start_server(*flood.server.flags, data_dir=flood.server.data_dir)
    status, body = pull(other, "others", ANN)
    assert status == 200, body
    assert flood.ended() == 0
    # the name that comes last in the line of the process that the flood is at
    (wanted,) = [held for held in flood.channel.holds if held.path == f"/{JOINED}-1.0-0.conda"]
    assert not wanted.reached.is_set()
    with ThreadPoolExecutor(1) as thread:
        anns = thread.submit(pull, other, JOINED, ANN)
        until(wanted.reached.is_set)
        before = flood.asked_for()
        assert len(before) < NAMES / 2, f"{len(before)} of the strangers had a turn before"
        unfinished = flood.select("SELECT request, waiter FROM build WHERE ended IS NULL")
        assert [waiter for request, waiter in unfinished if JOINED in request] == ["ann"]
        wanted.released.set()
        status, body = anns.result(PATIENCE)
    assert status == 200, body
    # the stranger who asked for the same is served with her, and nobody else
    assert flood.strangers[-1].result(PATIENCE)[0] == 200
    assert flood.ended() == 1
