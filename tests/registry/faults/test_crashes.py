"""A server that is killed, or whose system calls fail, at every step of a push, mount, deletion or collection.

strace does it: it attaches to the running server and kills it at the n-th system call of a kind, or makes that call
fail. After a restart every push that was acknowledged is there and has its digest, nothing is there in part, and the
same push works.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from storage.digest import Digest
from tests.support.registry.pushes import MANIFEST, image_manifest
from tests.support.server import Server, StartServer
from tests.support.small_disk import small_disk
from tests.support.wide import WIDE

pytestmark = pytest.mark.services

QUIET = ("--base", "scratch", "--workers", "1", "--channels", "file:///nowhere")
PATIENCE = 30
STEPS = (1, 2, 3, 4, 5, 6, 7, 9, 11, 14) if WIDE else (1, 2, 5, 14)
"""At which call of a kind, counted for each thread; the last is more than one thread makes for what is pushed here."""


@dataclass
class Client:
    """Pushes and remembers what was acknowledged."""

    server: Server
    blobs: dict[tuple[str, Digest], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    deleted: set[tuple[str, str]] = field(default_factory=set)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def push_whole(self, repository: str, data: bytes) -> int:
        digest = Digest.of(data)
        status, *_ = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        return self._acknowledged(status, repository, data)

    def push_chunks(self, repository: str, data: bytes) -> int:
        status, headers, _ = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        half = len(data) // 2
        for chunk, method, query in ((data[:half], "PATCH", ""), (data[half:], "PUT", f"?digest={Digest.of(data)}")):
            if status == 202:
                status, headers, _ = self.ask(method, headers["Location"] + query, chunk)
        return self._acknowledged(status, repository, data)

    def mount(self, repository: str, source: str, data: bytes) -> int:
        path = f"/v2/{repository}/blobs/uploads/?mount={Digest.of(data)}&from={source}"
        return self._acknowledged(self.ask("POST", path)[0], repository, data)

    def push_manifest(self, repository: str, tag: str, body: bytes) -> int:
        status, *_ = self.ask("PUT", f"/v2/{repository}/manifests/{tag}", body, Content_Type=MANIFEST)
        if status == 201:
            self.manifests[repository, tag] = self.manifests[repository, Digest.of(body)] = body
        return status

    def delete(self, repository: str, reference: str) -> int:
        self.manifests = {
            key: body
            for key, body in self.manifests.items()
            # its fate is open until it is acknowledged
            if key != (repository, reference) and (repository, Digest.of(body)) != (repository, reference)
        }
        status, *_ = self.ask("DELETE", f"/v2/{repository}/manifests/{reference}")
        if status == 202:
            self.deleted.add((repository, reference))
        return status

    def _acknowledged(self, status: int, repository: str, data: bytes) -> int:
        if status == 201:
            self.blobs[repository, Digest.of(data)] = data
        return status

    def check(self) -> None:
        """What was acknowledged is there, what is there is whole."""
        for (repository, digest), data in self.blobs.items():
            status, _, body = self.ask("GET", f"/v2/{repository}/blobs/{digest}")
            assert (status, body == data) == (200, True), (repository, digest)
        for (repository, reference), data in self.manifests.items():
            status, _, body = self.ask("GET", f"/v2/{repository}/manifests/{reference}")
            assert (status, body == data) == (200, True), (repository, reference)
        for repository, reference in self.deleted:
            assert self.ask("GET", f"/v2/{repository}/manifests/{reference}")[0] == 404
        status, _, body = self.ask("GET", "/v2/_catalog")
        assert status == 200
        for repository in json.loads(body)["repositories"]:
            self._check_repository(repository)

    def _check_repository(self, repository: str) -> None:
        _, _, body = self.ask("GET", f"/v2/{repository}/tags/list")
        for tag in json.loads(body).get("tags", []):
            status, headers, manifest = self.ask("GET", f"/v2/{repository}/manifests/{tag}")
            assert (status, headers["Docker-Content-Digest"]) == (200, Digest.of(manifest))
            document = json.loads(manifest)
            for each in (document["config"], *document["layers"]):
                status, _, content = self.ask("GET", f"/v2/{repository}/blobs/{each['digest']}")
                assert (status, Digest.of(content)) == (200, each["digest"])


def work(client: Client, step: int) -> list[int]:
    """Something of everything, with content of its own for each step; the statuses."""
    layer, other = f"layer {step} ".encode() * 40_000, f"other {step} ".encode() * 20_000
    body = image_manifest(b"{}", [layer, other])
    repository = f"team/r{step}"
    return [
        client.push_whole(repository, b"{}"),
        client.push_chunks(repository, layer),
        client.push_whole("elsewhere", other),
        client.mount(repository, "elsewhere", other),
        client.push_manifest(repository, "one", body),
        client.push_manifest(repository, "two", body),
        client.delete(repository, "two"),
        client.push_manifest(repository, "three", body.replace(b"}]", b"} ]")),
        client.delete(repository, Digest.of(body.replace(b"}]", b"} ]"))),
    ]


WORKED = [201, 201, 201, 201, 201, 201, 202, 201, 202]


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


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "rename", "pwrite64"])
def test_calls_that_fail(server: Server, tmp_path: Path, call: str, error: str) -> None:
    client = Client(server)
    failed = 0
    for step in STEPS:
        with injecting(server, f"{call}:error={error}:when={step}", tmp_path):
            statuses = work(client, step)
        # what follows on something that failed may lack it; nothing is a defect of ours
        assert set(statuses) <= {201, 202, 404, 503, 507}, statuses
        failed += not set(statuses).isdisjoint({503, 507})
        client.check()
        assert work(client, step) == WORKED
        client.check()
    assert failed, f"{call} never failed"


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
