"""A garbage collection every second against everything else at once: nothing that was acknowledged is ever lost.

A few seconds as a test; `make soak` runs it for minutes (SOAK_SECONDS).
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storage.digest import Digest
from tests.support.registry.client import QUIET, Client
from tests.support.registry.commands import files, report
from tests.support.registry.pushes import image_manifest
from tests.support.registry.stored import read_log
from tests.support.server import StartServer
from tests.support.wide import WIDE

SECONDS = float(os.environ.get("SOAK_SECONDS", "3"))
CLIENTS = 6
GRACE = 2
COMMON = [random.Random(number).randbytes(20_000 + number) for number in range(8)]
"""Few, so that whoever pushes, mounts and deletes meets the others at the same blobs."""

RARE = [random.Random(number).randbytes(5_000 + number) for number in range(100, 500)]
"""So many that one is often collected, or about to be, when it is pushed again."""


@dataclass
class Worker:
    """One client with a repository of its own, which knows what has to be in it."""

    client: Client
    number: int
    random: random.Random
    tags: dict[str, bytes] = field(default_factory=dict)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def repository(self) -> str:
        return f"soak/r{self.number}"

    def step(self) -> None:
        deeds = (self.push, self.push, self.pull, self.pull, self.peek, self.mount, self.delete, self.delete_blob)
        self.random.choice(deeds)()

    def count(self, what: str, status: int, *expected: int) -> int:
        self.statuses[what, status] += 1
        assert status in expected, (what, status)
        return status

    def push(self) -> None:
        layers = [*self.random.sample(COMMON, 2), *self.random.sample(RARE, 2)]
        body = image_manifest(b"{}", layers, annotations={"n": str(self.random.random())})
        tag = f"t{self.random.randrange(4)}"
        for _ in range(3):
            for data in (b"{}", *layers):
                push = self.random.choice((self.client.push_whole, self.client.push_chunks))
                self.count("push", push(self.repository, data), 201)
            # a client that is slower than the grace time may find a blob collected, and pushes it again
            if self.count("manifest", self.client.push_manifest(self.repository, tag, body), 201, 404) == 201:
                self.tags[tag] = body
                return
        raise AssertionError("a manifest was refused three times")

    def mount(self) -> None:
        data = self.random.choice((*COMMON, *RARE))
        source = f"soak/r{self.random.randrange(CLIENTS)}"
        path = f"/v2/{self.repository}/blobs/uploads/?mount={Digest.of(data)}&from={source}"
        status, headers, _ = self.client.ask("POST", path)
        if self.count("mount", status, 201, 202) == 201:
            status, _, body = self.client.ask("GET", f"/v2/{self.repository}/blobs/{Digest.of(data)}")
            self.count("pull", status, 200)
            assert body == data
        else:
            # the session that was opened instead would keep what is pushed while it lasts
            self.count("cancel", self.client.ask("DELETE", headers["Location"])[0], 204)

    def pull(self) -> None:
        for tag, wanted in self.tags.items():
            status, _, body = self.client.ask("GET", f"/v2/{self.repository}/manifests/{tag}")
            self.count("pull", status, 200)
            assert body == wanted
            for layer in json.loads(body)["layers"]:
                status, _, content = self.client.ask("GET", f"/v2/{self.repository}/blobs/{layer['digest']}")
                self.count("pull", status, 200)
                assert Digest.of(content) == layer["digest"]

    def peek(self) -> None:
        """At what somebody else has, or had."""
        data = self.random.choice((*COMMON, *RARE))
        path = f"/v2/soak/r{self.random.randrange(CLIENTS)}/blobs/{Digest.of(data)}"
        status, _, body = self.client.ask("GET", path)
        if self.count("peek", status, 200, 404) == 200:
            assert body == data

    def delete_blob(self) -> None:
        path = f"/v2/{self.repository}/blobs/{Digest.of(self.random.choice(COMMON))}"
        if self.count("delete blob", self.client.ask("DELETE", path)[0], 202, 404, 409) == 202:
            self.count("peek", self.client.ask("GET", path)[0], 404)

    def delete(self) -> None:
        if not self.tags:
            return
        tag = self.random.choice(list(self.tags))
        body = self.tags.pop(tag)
        if self.random.random() < 0.5 and body not in self.tags.values():
            self.count("delete", self.client.delete(self.repository, Digest.of(body)), 202)
        else:
            self.count("delete", self.client.delete(self.repository, tag), 202)


@pytest.mark.parametrize(
    "database", ["sqlite", *([pytest.param("postgresql", marks=pytest.mark.services)] if WIDE else [])]
)
def test_soak(request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path, database: str) -> None:
    flags = ["--gc-interval", "1", "--gc-grace", str(GRACE), "--untagged-for", "0.5", "--processes", "2"]
    where = [] if database == "sqlite" else ["--database", _address(request.getfixturevalue("migrated_postgres"))]
    server = start_server(*QUIET, *flags, *where, data_dir=tmp_path / "data")
    workers = [Worker(Client(server), number, random.Random(number)) for number in range(CLIENTS)]
    stopped, end = threading.Event(), time.monotonic() + SECONDS

    def run(worker: Worker) -> None:
        try:
            while time.monotonic() < end and not stopped.is_set():
                worker.step()
        except (AssertionError, OSError, http.client.HTTPException):
            stopped.set()
            raise

    with ThreadPoolExecutor(CLIENTS) as threads:
        for done in [threads.submit(run, worker) for worker in workers]:
            done.result()
    for worker in workers:
        worker.pull()
        for tag in list(worker.tags):
            assert worker.client.delete(worker.repository, tag) == 202
    assert sum(count for worker in workers for (what, _), count in worker.statuses.items() if what == "push")
    server.stop()
    assert read_log(server, "garbage collection failed") == []
    if SECONDS >= 60:
        assert sum(each["steps"]["blobs"]["count"] for each in read_log(server, "garbage collected"))
    assert report(server.data_dir, "verify", *where)["damage"] == []
    time.sleep(1)
    # a mount that was not possible has opened a session
    at_once = ("--gc-grace", "0", "--untagged-for", "0.001", "--upload-seconds", "0.001")
    collected = report(server.data_dir, "gc", *at_once, *where)
    assert files(server.data_dir) == [], collected


def _address(url: str) -> str:
    """A URL of SQLAlchemy's as it is written in the settings."""
    return url.replace("postgresql+psycopg://", "postgresql://")
