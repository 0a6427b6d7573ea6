"""A new image for somebody signed in while strangers flood the server with names that nobody has built."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.row import Row
from tests.support.sample import sample_channel
from tests.support.server import Server

ROOT = "conda-store-dynamic"
PASSWORD = "correct horse battery"
ANN = {"Authorization": "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()}
INDEX = "application/vnd.oci.image.index.v1+json"
FLOOD = 250
"""Names, each asked for from an address of its own: as many as strangers may have under way."""
BEGINNING = 2.0
"""Seconds from the flood to the first image."""
BETWEEN = 1.0
"""Seconds from each image to the next."""
SMALL = 100_000
"""Bytes of a package whose image takes the server little time when it is idle."""
MUST = 10
"""Strangers' builds may take time of the processors and the disk from it, but no turns."""


def measure(*, short: bool) -> list[Row]:
    flood, images = (20, 2) if short else (FLOOD, 5)
    own, others = choose_names(2 * images, flood)
    with tempfile.TemporaryDirectory() as work, server(Path(work)) as running:
        # python, which most of these need, is there before
        pull(running.port, "python", ANN)
        idle = [pull(running.port, name, ANN) for name in own[:images]]
        before = count_ended(running)
        with strangers(running.port, others):
            time.sleep(BEGINNING)
            beside = []
            for name in own[images:]:
                beside.append(pull(running.port, name, ANN))
                time.sleep(BETWEEN)
            left = flood + len(beside) - (count_ended(running) - before)
    note = f"slowest {max(beside):.2f} s; {left} of the flood still under way at the end"
    name = f"a new image for somebody signed in, beside a flood of {flood} new names"
    return [Row(name, statistics.median(beside), "s", MUST, "at most", "idle", statistics.median(idle), note)]


def choose_names(own: int, others: int) -> tuple[list[str], list[str]]:
    """Small packages that nobody else asks for, and as many sets of one to four others."""
    channel, small, names = sample_channel(), set[str](), set[str]()
    for folder in ("noarch", "linux-64"):
        records = json.loads((channel / folder / "repodata.json").read_text())["packages.conda"].values()
        names |= {record["name"] for record in records}
        small |= {record["name"] for record in records if record["size"] < SMALL and folder == "noarch"}
    chance = random.Random(1)
    mine = chance.sample(sorted(small), own)
    rest = sorted(names - set(mine))
    sets: dict[str, None] = {}
    while len(sets) < others:
        sets["/".join(sorted(chance.sample(rest, chance.randint(1, 4))))] = None
    return mine, list(sets)


@contextlib.contextmanager
def server(work: Path) -> Iterator[Server]:
    """A server that knows Ann, and lets strangers build too."""
    data = work / "data"
    for line, stdin in (("user add ann", PASSWORD), (f"role bind {ROOT}/*=editor --user ann", "")):
        command = [sys.executable, "-m", "registry.cli", *line.split(), "--data-dir", str(data)]
        subprocess.run(command, input=stdin, capture_output=True, text=True, check=True)
    flags = ("--channels", sample_channel().as_uri(), "--base", "host", "--trusted-proxies", "127.0.0.1")
    running = Server((*flags, "--anonymous-bindings", f"{ROOT}/*=editor"), data, work / "log")
    running.start()
    try:
        yield running
    finally:
        running.kill()


@contextlib.contextmanager
def strangers(port: int, names: Sequence[str]) -> Iterator[None]:
    """A process that floods the server and waits for its answers while the block runs."""
    process = multiprocessing.get_context("spawn").Process(target=send_flood, args=(port, names), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def send_flood(port: int, names: Sequence[str]) -> None:
    """Ask for each name from an address of its own."""
    numbers = itertools.product(range(113, 116), range(250))
    threads = [
        threading.Thread(target=pull, args=(port, name, {"X-Forwarded-For": f"203.0.{third}.{last}"}, "HEAD"))
        for name, (third, last) in zip(names, numbers, strict=False)
    ]
    for thread in threads:
        thread.start()


def pull(port: int, name: str, headers: Mapping[str, str], method: str = "GET") -> float:
    """Seconds until the image's index has arrived."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, f"/v2/{ROOT}/{name}/manifests/latest", headers={"Accept": INDEX, **headers})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"{name}: {answer.status} {body[:500]!r}")
    return time.perf_counter() - begun


def count_ended(running: Server) -> int:
    """How many builds the server's log says have ended."""
    lines = (json.loads(each) for each in running.log.read_text().splitlines() if each.startswith("{"))
    return sum(line["event"] in ("build completed", "build failed") for line in lines)
