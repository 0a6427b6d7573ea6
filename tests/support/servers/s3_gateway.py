"""Another S3 server, versitygw, built with Go: unlike rclone's, it copies parts and has rules for uploads."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.go_programs import GoProgramUnavailable, go_program
from tests.support.servers.running import running
from tests.support.servers.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
VERSIONS = ("v1.8.0",)
"""It needs Go 1.25."""

START_SECONDS = 240


@dataclass
class S3Gateway(S3Server):
    """A versitygw process; it cannot choose its port itself."""

    def start(self) -> None:
        try:
            program = go_program(PACKAGE, VERSIONS)
        except GoProgramUnavailable as error:
            pytest.skip(str(error))
        sidecar = self.directory.with_name("sidecar")
        for directory in (self.directory, sidecar):
            directory.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [str(program), f"--port=127.0.0.1:{self.port}", "--keep-alive", "--quiet", "posix"]
        environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, f"--sidecar={sidecar}", str(self.directory)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until(self._answers, START_SECONDS)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


@contextlib.contextmanager
def s3_gateway(directory: Path) -> Iterator[S3Gateway]:
    """Run a server on `directory`/buckets while the block runs; skips the test if it cannot be built."""
    with running(S3Gateway(directory / "buckets", directory / "log")) as server:
        yield server
