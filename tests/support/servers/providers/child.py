"""A program of its own that listens on a port of this machine."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 240


@dataclass
class Child:
    """The program at `url`, where it is started again, too."""

    url: str = field(init=False, default="")
    process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def choose_url(self) -> None:
        """A port that is free now, unless it had one before."""
        if not self.url:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.url = f"http://127.0.0.1:{free.getsockname()[1]}"

    def run(self, command: Sequence[str | Path]) -> None:
        """Returns when the program listens at `url`."""
        # not a pipe, which would be full one day
        with tempfile.TemporaryFile() as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            deadline = time.monotonic() + START_SECONDS
            while self.running and time.monotonic() < deadline:
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2]))).close()
                    return
                time.sleep(0.02)
            if self.running:
                self.kill()
            output.seek(0)
            raise AssertionError(f"it did not start:\n{output.read().decode(errors='replace')}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
