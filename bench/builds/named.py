"""Builds of named environments as people wait for them: from POST specification/ until the build is COMPLETED.

All over HTTP, with a server as users start it. The client asks for the build again and again, as conda-store's do, but
much more often. Each question takes the server some milliseconds of a processor that the build needs too, so it asks
twenty times a second while a build takes a second or two, and a hundred times where it takes some 40 ms.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.row import Row
from tests.support.sample import sample_channel
from tests.support.server import Server

SPECS = ("python", "numpy", "scipy", "flask")
"""What conda-store was asked for, which took 9.4 s (issue 11)."""
CONDA_STORE = 9.4
MUST_WHOLE = 2.0
MUST_CACHED = 1.0
MUST_AGAIN_MS = 50
PAUSE = 0.05
PAUSE_AGAIN = 0.01
"""Seconds between two questions: while packages are built, and where all is there already."""
WARM_SECONDS = 2.0
"""A server answers before its workers have started and it has looked at its base."""
PATIENCE = 120.0
INDEX = "application/vnd.oci.image.index.v1+json"


def measure(*, short: bool = False) -> list[Row]:
    specs, rounds, again = (SPECS[:1], 1, 3) if short else (SPECS, 5, 11)
    with tempfile.TemporaryDirectory() as text, channel() as url:
        work = Path(text)
        wholes, cached, same = [], [], []
        for number in range(rounds):
            empty, archives = work / f"empty-{number}", work / f"archives-{number}"
            with serving(empty, url) as client:
                wholes.append(client.time_whole(specs))
                packages = client.packages
                same += [client.time_build(specs, PAUSE_AGAIN) for _ in range(again)]
            shutil.copytree(empty / "archives", archives / "archives")
            with serving(archives, url) as client:
                client.solve(specs)
                cached.append(client.time_build(specs))
    what = " ".join(specs)
    return [
        Row(
            f"{what}, with image, lock and YAML, on an empty data directory", statistics.median(wholes), "s",
            MUST_WHOLE, "at most",
            note=f"conda-store: {CONDA_STORE} s; {packages} packages from a local channel; slowest {max(wholes):.2f}",
        ),
        Row(
            "POST specification/ to COMPLETED, packages downloaded", statistics.median(cached), "s",
            MUST_CACHED, "at most", note=f"the solve and all layers included; slowest {max(cached):.2f}",
        ),
        Row(
            "the same lock again", statistics.median(same) * 1000, "ms", MUST_AGAIN_MS, "at most",
            note=f"fastest {min(same) * 1000:.0f}, slowest {max(same) * 1000:.0f}, first {same[0] * 1000:.0f}",
        ),
    ]  # fmt: skip


@contextlib.contextmanager
def channel() -> Iterator[str]:
    """The sample channel over HTTP, from a process of its own."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]
    process = subprocess.Popen(
        [*command, "--directory", str(sample_channel())],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        # "Serving HTTP on 127.0.0.1 port 12345 (http://127.0.0.1:12345/) ..."
        yield f"http://127.0.0.1:{process.stdout.readline().split(' port ')[1].split()[0]}"
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def serving(data: Path, url: str, *flags: str) -> Iterator[Client]:
    """A server over `data` that has been running for a moment, and has read nothing of the channel yet."""
    server = Server(("--channels", url, "--base", "host", *flags), data, data.parent / f"{data.name}.log")
    server.start()
    try:
        time.sleep(WARM_SECONDS)
        yield Client(server.port)
    finally:
        server.kill()


@dataclass
class Client:
    port: int
    packages: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port)

    def time_whole(self, specs: Sequence[str]) -> float:
        """Seconds until somebody has the build, the manifest of its image, its lock and its YAML."""
        begun = time.perf_counter()
        build = self._build(specs)
        self._get("/v2/team/analysis/manifests/latest", {"Accept": INDEX})
        lock = self._get(f"/api/v1/build/{build}/conda-lock.yml/")
        self._get(f"/api/v1/build/{build}/yaml/")
        seconds = time.perf_counter() - begun
        self.packages = lock.count(b"\n- name: ")
        return seconds

    def time_build(self, specs: Sequence[str], pause: float = PAUSE) -> float:
        """Seconds from the request to the first answer that says COMPLETED."""
        begun = time.perf_counter()
        self._build(specs, pause)
        return time.perf_counter() - begun

    def _build(self, specs: Sequence[str], pause: float = PAUSE) -> int:
        document = json.dumps({"name": "analysis", "dependencies": list(specs)})
        build = self._post("/api/v1/specification/", {"namespace": "team", "specification": document})["build_id"]
        last = time.monotonic() + PATIENCE
        while (found := json.loads(self._get(f"/api/v1/build/{build}/"))["data"])["status"] != "COMPLETED":
            if found["status"] in ("FAILED", "CANCELED") or time.monotonic() > last:
                raise RuntimeError(f"build {build} is {found['status']}: {found['status_info']}")
            time.sleep(pause)
        return int(build)

    def solve(self, specs: Sequence[str]) -> None:
        document = json.dumps({"name": "analysis", "dependencies": list(specs)})
        self._post("/api/v1/solve/", {"namespace": "team", "specification": document})

    def _post(self, path: str, document: Any) -> Any:
        return json.loads(self._ask("POST", path, json.dumps(document), {"Content-Type": "application/json"}))["data"]

    def _get(self, path: str, headers: dict[str, str] | None = None) -> bytes:
        return self._ask("GET", path, None, headers or {})

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> bytes:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{path}: {answer.status} {content[:500]!r}")
        return content
