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

from storage.digest import Digest
from tests.conftest import StartServer
from tests.registry.pushes import image_manifest
from tests.registry.test_crashes import QUIET, Client
from tests.registry.test_upkeep import files, report

SECONDS = float(os.environ.get("SOAK_SECONDS", "12"))
CLIENTS = 6
GRACE = 3
LAYERS = [random.Random(number).randbytes(20_000 + number) for number in range(8)]
"""Few, so that whoever pushes, mounts and deletes meets the others at the same blobs."""


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
        self.random.choice((self.push, self.push, self.pull, self.pull, self.mount, self.delete))()

    def count(self, what: str, status: int, *expected: int) -> int:
        self.statuses[what, status] += 1
        assert status in expected, (what, status)
        return status

    def push(self) -> None:
        layers = self.random.sample(LAYERS, 3)
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
        data = self.random.choice(LAYERS)
        source = f"soak/r{self.random.randrange(CLIENTS)}"
        if self.count("mount", self.client.mount(self.repository, source, data), 201, 202) == 201:
            status, _, body = self.client.ask("GET", f"/v2/{self.repository}/blobs/{Digest.of(data)}")
            self.count("pull", status, 200)
            assert body == data

    def pull(self) -> None:
        for tag, wanted in self.tags.items():
            status, _, body = self.client.ask("GET", f"/v2/{self.repository}/manifests/{tag}")
            self.count("pull", status, 200)
            assert body == wanted
            for layer in json.loads(body)["layers"]:
                status, _, content = self.client.ask("GET", f"/v2/{self.repository}/blobs/{layer['digest']}")
                self.count("pull", status, 200)
                assert Digest.of(content) == layer["digest"]

    def delete(self) -> None:
        if not self.tags:
            return
        tag = self.random.choice(list(self.tags))
        body = self.tags.pop(tag)
        if self.random.random() < 0.5 and body not in self.tags.values():
            self.count("delete", self.client.delete(self.repository, Digest.of(body)), 202)
        else:
            self.count("delete", self.client.delete(self.repository, tag), 202)


def test_soak(start_server: StartServer, tmp_path: Path) -> None:
    flags = ("--gc-interval", "1", "--gc-grace", str(GRACE), "--untagged-for", "0.5", "--processes", "2")
    server = start_server(*QUIET, *flags, data_dir=tmp_path / "data")
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
    assert report(server.data_dir, "verify")["damage"] == []
    time.sleep(1)
    # a mount that was not possible has opened a session
    at_once = ("--gc-grace", "0", "--untagged-for", "0.001", "--upload-seconds", "0.001")
    collected = report(server.data_dir, "gc", *at_once)
    assert files(server.data_dir) == [], collected
