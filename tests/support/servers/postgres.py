"""A real PostgreSQL in a temporary directory, on a unix socket."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from tests.support.servers.running import running

INSTALLATIONS = Path("/usr/lib/postgresql")
USER = "condery"

START_SECONDS = 240
STOP_SECONDS = 240

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    # what a killed server leaves is safe in the kernel's memory
    "fsync": "off",
    "full_page_writes": "off",
    "log_min_messages": "warning",
}


@dataclass
class Postgres:
    """A PostgreSQL server with its files and its socket in `directory`."""

    programs: Path
    directory: Path
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def initialize(self) -> None:
        command: list[str | Path] = [self.programs / "initdb", "--pgdata", self.directory / "data"]
        command += ["--username", USER, "--auth", "trust"]
        # a collation other than by bytes, as servers commonly have it
        command += ["--encoding", "UTF8", "--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en-US"]
        command += ["--no-sync"]
        account = _account()
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.directory, user=account, group=account)
        assert done.returncode == 0, f"initdb failed:\n{done.stdout}{done.stderr}"

    def start(self, **settings: str) -> None:
        """Start and wait until the server answers. `settings` apply to this run only."""
        command: list[str | Path] = [self.programs / "postgres", "-D", self.directory / "data", "-k", self.directory]
        for name, value in {**self.settings, **settings}.items():
            command += ["-c", f"{name}={value}"]
        account = _account()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                user=account,
                group=account,
            )
        deadline = time.monotonic() + START_SECONDS
        while self.running and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                self.execute("SELECT 1")
                return
            time.sleep(0.02)
        if self.running:
            self.kill()
        pytest.fail(f"PostgreSQL did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Stop: connections end, and what they committed is written."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Kill all its processes at once, as when the machine crashes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def restart(self, **settings: str) -> None:
        if self.running:
            self.stop()
        self.start(**settings)

    def url(self, database: str) -> str:
        """The URL for SQLAlchemy."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self.directory}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(
            host=str(self.directory), user=USER, dbname=database, autocommit=True, connect_timeout=START_SECONDS
        ) as connection:
            connection.execute(statement)


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server while the block runs; skips the test if PostgreSQL is not installed."""
    programs = _programs()
    # a socket's address is limited to 107 bytes, and a test's directory is deep and private to its user
    directory = Path(tempfile.mkdtemp(prefix="condery-postgres-"))
    try:
        if account := _account():
            shutil.chown(directory, account, account)
        server = Postgres(programs, directory)
        server.initialize()
        with running(server):
            yield server
    finally:
        # a database for each test is some hundred thousand files, for which nobody need wait
        subprocess.run(["sh", "-c", 'rm -rf "$0" &', directory], check=True)


def is_installed() -> bool:
    return bool(_installed())


def _installed() -> list[Path]:
    return [path.parent for path in INSTALLATIONS.glob("*/bin/initdb") if path.parts[-3].isdigit()]


def _programs() -> Path:
    found = _installed()
    if not found:
        pytest.skip(f"PostgreSQL is not installed: no {INSTALLATIONS}/*/bin/initdb (Debian: postgresql)")
    return max(found, key=lambda path: int(path.parent.name))


def _account() -> str | None:
    """The user and group for its processes if not our own: initdb and postgres refuse to run as root."""
    return None if os.geteuid() else "postgres"
