"""The clients of conda-store, as they were last released: its command line and its web interface."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.npm_packages import npm_files
from tests.support.sample import CACHE
from tests.support.server import Server

COMMAND_LINE = "conda-store==2025.2.2"
INTERFACE = "@conda-store/conda-store-ui@2024.11.1"
INSTALL_SECONDS = 300
RUN_SECONDS = 120


class ClientUnavailable(Exception):
    """Why it is not available here."""


def interface_directory() -> Path:
    """The folder `dist` of the web interface. Raises NpmPackageUnavailable."""
    return npm_files(INTERFACE) / "dist"


def install_command_line(cache: Path = CACHE / "conda-store") -> Path:
    """The program, in a virtual environment of its own. Raises ClientUnavailable."""
    place = cache / f"{COMMAND_LINE}-{sys.version_info.major}.{sys.version_info.minor}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # a virtual environment cannot be moved, so a file says that it is whole
        if not (place / "whole").exists():
            # it is said to work up to 3.12, and has nothing that a later one lacks
            options = ["--ignore-requires-python"] if sys.version_info >= (3, 13) else []
            _run([sys.executable, "-m", "venv", "--clear", str(place)])
            _run([str(place / "bin/python"), "-m", "pip", "install", "--quiet", *options, COMMAND_LINE])
            (place / "whole").touch()
    return place / "bin/conda-store"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode:
        raise ClientUnavailable(f"{' '.join(command)}: {done.stderr.strip()[:500]}")


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    error: str


@dataclass(frozen=True)
class CondaStore:
    """The command line. Its cookie jar keeps nothing of an IP address, so it finds the server at `localhost`."""

    server: Server
    prefix: str = ""
    """Of all paths of the server."""
    sign_in: Mapping[str, str] = field(default_factory=dict)
    """Variables that it signs in with."""

    def as_token(self, token: str) -> CondaStore:
        return CondaStore(self.server, self.prefix, {"CONDA_STORE_AUTH": "token", "CONDA_STORE_TOKEN": token})

    def as_person(self, name: str, password: str) -> CondaStore:
        said = {"CONDA_STORE_USERNAME": name, "CONDA_STORE_PASSWORD": password}
        return CondaStore(self.server, self.prefix, {"CONDA_STORE_AUTH": "basic", **said})

    def __call__(self, *words: str, directory: Path | None = None) -> Run:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CONDA")}
        environment |= {"CONDA_STORE_URL": f"http://localhost:{self.server.port}{self.prefix}", "COLUMNS": "200"}
        done = subprocess.run(
            [install_command_line(), *words],
            env={**environment, **self.sign_in},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            stdin=subprocess.DEVNULL,
            cwd=directory,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def ask(self, *words: str, directory: Path | None = None) -> str:
        """What a command prints that has to succeed."""
        run = self(*words, directory=directory)
        assert run.code == 0, f"conda-store {' '.join(words)}: exit {run.code}\n{run.out}{run.error}"
        return run.out

    def refused(self, *words: str) -> str:
        """What a command shows that has to fail."""
        run = self(*words)
        assert run.code != 0, f"conda-store {' '.join(words)}: {run.out}"
        return run.out + run.error
