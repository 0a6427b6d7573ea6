"""The client programs, each as one function that pulls a reference or fails with what the program said.

A program that is missing skips the test, except where CONDERY_REQUIRE_CLIENTS is set (see tests/conftest.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PULL_SECONDS = 240


class ClientError(Exception):
    """What a client said when it failed."""


def run(command: Sequence[str | Path], *, seconds: float = PULL_SECONDS, **options: object) -> str:
    """The standard output of `command`; raises ClientError with all it said when it fails."""
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=seconds, check=False
    )
    if result.returncode:
        raise ClientError(f"{' '.join(map(str, command))}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def need(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


@dataclass(frozen=True)
class Client:
    """A program that pulls; `reference` is host:port/repository:tag of a server that speaks plain http."""

    name: str

    def pull(self, reference: str) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Docker(Client):
    name: str = "docker"

    def pull(self, reference: str) -> None:
        run(["docker", "pull", "--quiet", reference])

    def run(self, reference: str, *command: str, options: Sequence[str] = ()) -> str:
        return run(["docker", "run", "--rm", "--network", "none", *options, reference, *command])

    def remove(self, reference: str) -> None:
        with contextlib.suppress(ClientError):
            run(["docker", "rmi", "--force", reference])


@dataclass(frozen=True)
class Containerd(Client):
    socket: Path = Path("/run/containerd/containerd.sock")
    name: str = "containerd"

    def pull(self, reference: str) -> None:
        run(["ctr", "--address", self.socket, "images", "pull", "--plain-http", reference])


@dataclass(frozen=True)
class Podman(Client):
    storage: Path = Path()
    name: str = "podman"

    def command(self, *words: str) -> list[str | Path]:
        return [
            "podman", "--root", self.storage / "root", "--runroot", self.storage / "run",
            "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", *words,
        ]  # fmt: skip

    def pull(self, reference: str) -> None:
        run(self.command("pull", "--quiet", "--tls-verify=false", reference))


@dataclass(frozen=True)
class Skopeo(Client):
    directory: Path = Path()
    name: str = "skopeo"

    def pull(self, reference: str) -> None:
        target = tempfile.mkdtemp(dir=self.directory)
        run(["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{target}"])
        shutil.rmtree(target)

    def inspect(self, reference: str) -> dict[str, object]:
        text = run(["skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"])
        document: dict[str, object] = json.loads(text)
        return document


@contextlib.contextmanager
def containerd(directory: Path) -> Iterator[Containerd]:
    """A containerd of our own, on a socket in `directory`."""
    need("containerd")
    need("ctr")
    if os.geteuid():
        pytest.skip("containerd needs root")
    # an address in a deep directory is longer than a socket's may be
    socket = Path(tempfile.mkdtemp(prefix="ctr-")) / "socket"
    config = directory / "config.toml"
    config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["containerd", "--config", config, "--address", socket, "--root", directory / "root", "--state", socket.parent / "state"],
            stdout=log,
            stderr=log,
        )  # fmt: skip
        try:
            for _ in range(150):
                if socket.exists() and process.poll() is None:
                    break
                time.sleep(0.1)
            else:
                pytest.fail(f"containerd did not start:\n{(directory / 'log').read_text()}")
            yield Containerd(socket=socket)
        finally:
            process.terminate()
            process.wait(30)
            shutil.rmtree(socket.parent, ignore_errors=True)


def docker() -> Docker:
    need("docker")
    try:
        run(["docker", "info"], seconds=30)
    except (ClientError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no docker daemon answers: {str(error).splitlines()[-1]}")
    return Docker()
