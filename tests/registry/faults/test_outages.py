"""What a server keeps its facts and bytes in goes away in the middle of pushes, and comes back.

Nothing that was acknowledged is lost, nothing else is there, and the server needs no restart.
"""

from __future__ import annotations

import contextlib
import http.client
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.digest import Digest
from tests.support.registry.client import QUIET, WORKED, Client, work
from tests.support.server import Server, StartServer
from tests.support.servers.postgres import Postgres
from tests.support.servers.s3_server import ACCESS_KEY, REGION, SECRET_KEY, S3Server

pytestmark = pytest.mark.services

REFUSED = {404, 503, 507}
"""Of something that failed, and of what follows on it."""

LOCKED_SECONDS = 2.0


def push_until(client: Client, stopped: threading.Event) -> set[int]:
    """Everything again and again; the statuses."""
    statuses: set[int] = set()
    step = 1
    while not stopped.is_set():
        with contextlib.suppress(OSError, http.client.HTTPException, KeyError):
            statuses |= set(work(client, step))
        step += 1
    return statuses


def outage(client: Client, go_away: Callable[[], None], come_back: Callable[[], None]) -> set[int]:
    """The statuses of pushes before, during and after it."""
    stopped, statuses = threading.Event(), set[int]()
    thread = threading.Thread(target=lambda: statuses.update(push_until(client, stopped)))
    thread.start()
    try:
        time.sleep(1)
        go_away()
        time.sleep(1)
        come_back()
        time.sleep(0.5)
    finally:
        stopped.set()
        thread.join()
    return statuses


def assert_whole(client: Client, statuses: set[int]) -> None:
    assert statuses & REFUSED, "nobody noticed"
    assert statuses <= {201, 202} | REFUSED
    client.check()
    assert work(client, 10_000) == WORKED
    client.check()
    assert client.ask("GET", "/readyz")[0] == 200


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_postgresql_restarts(start_server: StartServer, postgres: Postgres, postgres_url: str, end: str) -> None:
    address = postgres_url.replace("postgresql+psycopg://", "postgresql://")
    client = Client(start_server(*QUIET, "--database", address))
    assert work(client, 0) == WORKED
    assert_whole(client, outage(client, getattr(postgres, end), postgres.start))


@pytest.fixture
def s3_flags(s3_server: S3Server, tmp_path: Path) -> list[str]:
    credentials = tmp_path / "s3.keys"
    credentials.write_text(f"{ACCESS_KEY}\n{SECRET_KEY}\n")
    credentials.chmod(0o600)
    flags = ["--s3-bucket", s3_server.new_bucket(), "--s3-endpoint", s3_server.url, "--s3-region", REGION]
    return [*flags, "--s3-credentials", str(credentials), "--s3-addressing", "path", "--s3-proxy"]


def test_the_object_store_goes_away(start_server: StartServer, s3_server: S3Server, s3_flags: list[str]) -> None:
    client = Client(start_server(*QUIET, *s3_flags))
    assert work(client, 0) == WORKED
    assert_whole(client, outage(client, s3_server.kill, s3_server.restart))


def test_sqlite_is_locked(start_server: StartServer) -> None:
    """By some program that looks at the file: pushes wait for it, and pulls do not."""
    server: Server = start_server(*QUIET)
    client = Client(server)
    assert work(client, 0) == WORKED
    pushed: list[int] = []
    pusher = threading.Thread(target=lambda: pushed.append(client.push_whole("late", b"late")))
    with contextlib.closing(sqlite3.connect(server.data_dir / "condery.sqlite", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        pusher.start()
        time.sleep(LOCKED_SECONDS)
        assert pushed == []
        assert client.ask("GET", f"/v2/team/r0/blobs/{Digest.of(b'{}')}")[0] == 200
        connection.execute("COMMIT")
        pusher.join()
    assert pushed == [201]
    client.check()
