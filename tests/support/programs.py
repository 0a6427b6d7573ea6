"""The client programs: objects that pull and push, and raise errors with the program's output.

A missing program skips the test, unless CONDERY_REQUIRE_CLIENTS is set (see tests/conftest.py).
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
from typing import Any, Protocol

import oras.client
import oras.provider
import pytest
import python_docker.registry

from storage.oci import OCI_MANIFEST
from tests.support.go_programs import GoProgramUnavailable, go_program

ORAS = ("oras.land/oras/cmd/oras", ("v1.3.6", "v1.3.5", "v1.3.4"))
CRANE = ("github.com/google/go-containerregistry/cmd/crane", ("v0.22.1", "v0.21.9", "v0.20.8"))
"""Package and versions of the clients that are written in Go."""

PULL_SECONDS = 240
START_SECONDS = 240


class ClientError(Exception):
    """The output of a client that failed."""


class Client(Protocol):
    name: str

    def pull(self, reference: str) -> None:
        """Pull `reference`, host:port/repository:tag, from a server that speaks plain http; raises ClientError."""


def run(command: Sequence[str | Path], *, seconds: float = PULL_SECONDS, directory: Path | None = None) -> str:
    """The standard output of `command`, run in `directory`; raises ClientError with all its output if it fails."""
    words = [str(word) for word in command]
    result = subprocess.run(
        words, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, cwd=directory
    )
    if result.returncode:
        raise ClientError(f"{' '.join(words)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def need(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


def need_root(program: str) -> None:
    if os.geteuid():
        pytest.skip(f"{program} needs root")


@dataclass(frozen=True)
class Docker:
    name: str = "docker"

    def pull(self, reference: str) -> None:
        run(["docker", "pull", "--quiet", reference])

    def pull_aloud(self, reference: str) -> str:
        """Pull, and return the output about each layer."""
        return run(["docker", "pull", reference])

    def run(self, reference: str, *command: str, options: Sequence[str] = ()) -> str:
        return run(["docker", "run", "--rm", "--network", "none", *options, reference, *command])

    def inspect(self, reference: str) -> str:
        return run(["docker", "image", "inspect", reference])

    def load(self, archive: Path) -> None:
        run(["docker", "load", "--quiet", "--input", archive])

    def build(self, directory: Path, reference: str) -> None:
        """Build with docker 20.10's own builder, which needs no plugin."""
        run(["env", "DOCKER_BUILDKIT=0", "docker", "build", "--quiet", "--tag", reference, directory])

    def tag(self, reference: str, other: str) -> None:
        run(["docker", "tag", reference, other])

    def push(self, reference: str) -> str:
        """Push, and return the output about each layer and the digest."""
        return run(["docker", "push", reference])

    def remove_images_of(self, address: str) -> None:
        """Remove what was pulled from the registry at `address` (host:port)."""
        names = run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]).split()
        ours = [name for name in names if name.startswith(f"{address}/")]
        if ours:
            run(["docker", "rmi", "--force", *ours])


@dataclass(frozen=True)
class Containerd:
    """`ctr` with a containerd process of the tests' own."""

    socket: Path
    name: str = "containerd"

    def command(self, *words: str) -> list[str | Path]:
        return ["ctr", "--address", self.socket, *words]

    def pull(self, reference: str) -> None:
        run(self.command("images", "pull", "--plain-http", reference))

    def load(self, archive: Path, *options: str) -> None:
        """Load a docker archive or an OCI layout from a tar."""
        run(self.command("images", "import", *options, str(archive)))

    def push(self, reference: str) -> None:
        run(self.command("images", "push", "--plain-http", reference))

    def remove(self, reference: str) -> None:
        run(self.command("images", "remove", "--sync", reference))

    def run(self, reference: str, *command: str) -> str:
        return run(self.command("run", "--rm", reference, "condery-test", *command))


@dataclass(frozen=True)
class Podman:
    """podman with a storage of the tests' own. To pull, it need not be able to run containers."""

    storage: Path
    driver: str
    name: str = "podman"

    def command(self, *words: str) -> list[str | Path]:
        return [
            "podman", "--root", self.storage / "root", "--runroot", self.storage / "run",
            "--storage-driver", self.driver, "--cgroup-manager", "cgroupfs", *words,
        ]  # fmt: skip

    def pull(self, reference: str) -> None:
        run(self.command("pull", "--quiet", "--tls-verify=false", reference))

    def load(self, archive: Path) -> None:
        run(self.command("load", "--quiet", "--input", str(archive)))

    def push(self, image: str, reference: str, manifest_format: str) -> None:
        """Push with the manifest in the format `oci` or `v2s2`."""
        run(self.command("push", "--quiet", "--tls-verify=false", "--format", manifest_format, image, reference))

    def remove_all(self) -> None:
        run(self.command("rmi", "--all", "--force"))

    def run(self, reference: str, *command: str) -> str:
        # podman's default limits may exceed the machine's
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
        return run(self.command("run", "--rm", "--network", "none", *limits, reference, *command))


@dataclass(frozen=True)
class Skopeo:
    directory: Path
    name: str = "skopeo"

    def pull(self, reference: str) -> None:
        self.copy(reference, f"dir:{tempfile.mkdtemp(dir=self.directory)}")

    def copy(self, reference: str, target: str, *options: str) -> None:
        command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", *options]
        run([*command, f"docker://{reference}", target])

    def push(self, source: str, reference: str, *options: str) -> None:
        command = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *options]
        run([*command, source, f"docker://{reference}"])

    def delete(self, reference: str) -> None:
        run(["skopeo", "delete", "--tls-verify=false", f"docker://{reference}"])

    def tags(self, name: str) -> list[str]:
        text = run(["skopeo", "list-tags", "--tls-verify=false", f"docker://{name}"])
        return list(json.loads(text)["Tags"])

    def inspect(self, reference: str) -> dict[str, Any]:
        text = run(["skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"])
        document: dict[str, Any] = json.loads(text)
        return document


@dataclass(frozen=True)
class Oras:
    """The oras library for Python."""

    name: str = "oras"

    def pull(self, reference: str) -> None:
        self.blobs(reference)

    def blobs(self, reference: str) -> dict[str, bytes]:
        """The config and layers of the OCI manifest, by digest."""
        registry = oras.provider.Registry(hostname=reference.partition("/")[0], insecure=True)
        with registry.session:
            manifest = registry.get_manifest(reference, [OCI_MANIFEST])
            digests = [each["digest"] for each in (manifest["config"], *manifest["layers"])]
            return {digest: registry.get_blob(reference, digest).content for digest in digests}

    def client(self, address: str) -> oras.client.OrasClient:
        return oras.client.OrasClient(hostname=address, insecure=True)


@dataclass(frozen=True)
class OrasCommand:
    """The `oras` program, in a directory of its own, since it takes files by relative names."""

    program: Path
    directory: Path

    def __call__(self, command: str, *words: str) -> str:
        """Run a command, which may be two words; returns its output."""
        return self.run(command, "--plain-http", *words)

    def run(self, command: str, *words: str) -> str:
        """Run a command that involves two registries, and so has two options for plain HTTP."""
        return run([self.program, *command.split(), *words], directory=self.directory)


@dataclass(frozen=True)
class Crane:
    program: Path

    def __call__(self, *words: str | Path) -> str:
        """Run a command; returns its output without the final line end."""
        return run([self.program, *words]).rstrip("\n")


@dataclass(frozen=True)
class PythonDocker:
    """The python-docker library, which only reads docker's schema 2 manifests."""

    name: str = "python-docker"

    def pull(self, reference: str) -> None:
        self.image(reference)

    def image(self, reference: str) -> python_docker.base.Image:
        address, _, name = reference.partition("/")
        repository, _, tag = name.rpartition(":")
        with self.registry(address) as registry:
            return registry.pull_image(repository, tag)

    @contextlib.contextmanager
    def registry(self, address: str) -> Iterator[python_docker.registry.Registry]:
        registry = python_docker.registry.Registry(f"http://{address}")
        with registry.session:
            yield registry


@contextlib.contextmanager
def containerd(directory: Path) -> Iterator[Containerd]:
    """Run a containerd of our own, with its data in `directory`."""
    need("containerd")
    need("ctr")
    need_root("containerd")
    config = directory / "config.toml"
    config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    # a socket's address is limited to 107 bytes, and a test's directory is deep
    short = Path(tempfile.mkdtemp(prefix="ctr-"))
    client = Containerd(short / "socket")
    command: list[str | Path] = ["containerd", "--config", config, "--address", client.socket]
    command += ["--root", directory / "root", "--state", short / "state"]
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _await_answer(client, process, log)
        yield client
    finally:
        process.terminate()
        process.wait(30)
        for each in (short, directory / "root"):
            shutil.rmtree(each, ignore_errors=True)


def _await_answer(client: Containerd, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ClientError):
            run(client.command("version"))
            return
        time.sleep(0.1)
    pytest.fail(f"containerd did not start:\n{log.read_text()}")


@contextlib.contextmanager
def podman() -> Iterator[Podman]:
    """Yield a podman with a storage of its own."""
    need("podman")
    need_root("podman")
    # podman refuses a state directory with a path longer than 50 characters
    directory = Path(tempfile.mkdtemp(prefix="podman-"))
    for driver in ("overlay", "vfs"):
        client = Podman(directory / driver, driver)
        with contextlib.suppress(ClientError):
            run(client.command("info"))
            break
    else:
        pytest.skip("podman has no storage driver that works here")
    try:
        yield client
    finally:
        # podman leaves its overlay directory mounted on itself, and then nobody could remove it
        subprocess.run(["umount", client.storage / "root" / "overlay"], capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)


def oras_command(directory: Path) -> OrasCommand:
    return OrasCommand(_go_client(*ORAS), directory)


def crane() -> Crane:
    return Crane(_go_client(*CRANE))


def _go_client(package: str, versions: Sequence[str]) -> Path:
    try:
        return go_program(package, versions)
    except GoProgramUnavailable as error:
        pytest.skip(f"{package} cannot be built: {error}")


def docker() -> Docker:
    need("docker")
    try:
        run(["docker", "info"], seconds=30)
    except (ClientError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no docker daemon answers: {str(error).splitlines()[-1]}")
    return Docker()
