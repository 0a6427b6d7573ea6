"""The reference registry as a process: Debian's `docker-registry` 2.8, or distribution 3.x built with Go."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.go_programs import go_program

PACKAGE = "github.com/distribution/distribution/v3/cmd/registry"
VERSIONS = ("v3.1.2", "v3.1.1", "v3.0.0")

START_SECONDS = 240
STOP_SECONDS = 240

CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {directory}/data}}
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}", secret: none}}
"""


class RegistryUnavailable(Exception):
    """Why the registry is not available here."""


def docker_registry_2() -> Path:
    """Debian's program; raises RegistryUnavailable."""
    found = shutil.which("docker-registry")
    if not found:
        raise RegistryUnavailable("docker-registry is not installed (Debian: docker-registry)")
    return Path(found)


def needed_registry() -> Path:
    """Debian's program; skips the test if it is missing."""
    try:
        return docker_registry_2()
    except RegistryUnavailable as error:
        pytest.skip(str(error))


def distribution_3(*, build: bool = True) -> Path:
    """The newest 3.x that is kept or can be built; raises GoProgramUnavailable."""
    return go_program(PACKAGE, VERSIONS, build=build)


@contextlib.contextmanager
def serving(program: Path, directory: Path, *, prefix: Sequence[str] = (), auth: str = "") -> Iterator[tuple[int, int]]:
    """Yield port and process id of a registry on `directory` that allows deletions.

    `prefix` is a command around it, `auth` a section of its configuration in YAML.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    config, log = directory / "config.yml", directory / "log"
    config.write_text(CONFIG.format(directory=directory, port=port) + auth)
    # 3.x would look for a trace collector
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*prefix, program, "serve", config], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    try:
        _await_answer(process, port, log)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise RegistryUnavailable(f"the registry did not start:\n{log.read_text()}")
