"""A server as users start it, in its own process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 240
STOP_SECONDS = 240


@dataclass
class Server:
    """A `condery serve` process on a port chosen by the system."""

    flags: tuple[str, ...]
    data_dir: Path
    log: Path
    port: int = 0
    prefix: tuple[str, ...] = ()
    """A command around the server's, such as `taskset -c 0`."""
    process: subprocess.Popen[str] = field(init=False)
    told: str = field(init=False, default="")
    """The line that it printed at its start."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """The beginning of image references."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until the server answers; after the first start always on the same port."""
        command = [*self.prefix, sys.executable, "-m", "registry.cli", "serve", *self.flags]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        watchdog = threading.Timer(START_SECONDS, self.process.kill)
        watchdog.start()
        assert self.process.stdout is not None
        line = self.told = self.process.stdout.readline()
        watchdog.cancel()
        found = re.search(r"https?://\S+:(\d+)", line)
        assert found, f"the server did not start:\n{self.log.read_text()}"
        self.port = int(found[1])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it with a signal, as an init system or a terminal does; returns the exit code."""
        self.process.send_signal(number)
        return self._ended()

    def kill(self) -> None:
        """SIGKILL the server and all its workers at once, as when the machine crashes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self._ended()

    def restart(self) -> None:
        """Stop cleanly, unless the server is already dead, and start again with the same data."""
        if self.process.poll() is None:
            self.stop()
        self.start()

    def _ended(self) -> int:
        assert self.process.stdout is not None
        code = self.process.wait(STOP_SECONDS)
        self.process.stdout.close()
        return code


StartServer = Callable[..., Server]
