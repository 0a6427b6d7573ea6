"""Pages of long lists: 100,000 tags of a repository, and 10,000 repositories, of which somebody may read all or ten."""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy

from bench.row import Row
from bench.serving.load import on_core, this_process_on_core
from bench.serving.pushing import Pusher
from storage.database import tables
from tests.support.server import Server

MUST_MS = 50
TAGS = [f"tag-{number:06}" for number in range(100_000)]
REPOSITORIES = [f"bench/repository-{number:05}" for number in range(10_000)]
READABLE = 10
"""The repositories that somebody who signs in may read, from the first to the last."""


def measure_lists(*, short: bool = False) -> list[Row]:
    """Pages from the middle of each list, median of several requests for the slower page size, in milliseconds."""
    tags, repositories = (TAGS[::10], REPOSITORIES[::10]) if short else (TAGS, REPOSITORIES)
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        server = Server((), directory / "data", directory / "log", prefix=tuple(on_core(0)))
        server.start()
        with Pusher(server.port) as pusher:
            digest = pusher.image(repositories[0], "latest", [b"a layer"])
        server.stop()
        _fill(directory / "data" / "condery.sqlite", digest, tags, repositories)
        server.start()
        try:
            with this_process_on_core(-1):
                rows = [
                    _row(server.port, f"tags/list of {len(tags):,}", f"/v2/{repositories[0]}/tags/list", "tags", tags),
                    _row(
                        server.port, f"_catalog of {len(repositories):,}", "/v2/_catalog", "repositories", repositories
                    ),
                ]
            server.stop()
            readable = repositories[:: len(repositories) // (READABLE - 1) - 1][:READABLE]
            token = _let_read(directory / "data", readable)
            server.flags = ("--anonymous-bindings", "none")
            server.start()
            with this_process_on_core(-1):
                return [*rows, _row_of_few(server.port, token, readable, len(repositories))]
        finally:
            server.kill()


def _let_read(directory: Path, repositories: Sequence[str]) -> str:
    """Make somebody who may read these alone; returns their access token."""

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "registry.cli", *arguments, "--data-dir", str(directory)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    run("robot", "add", "reader")
    for name in repositories:
        run("role", "bind", f"{name}=viewer", "--robot", "reader")
    return run("token", "create", "bench", "--robot", "reader").strip()


def _fill(path: Path, digest: str, tags: Sequence[str], repositories: Sequence[str]) -> None:
    """Insert the rows that a hundred thousand pushes would leave."""
    now = time.time()
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        named = [{"name": name, "created": now} for name in repositories[1:]]
        connection.execute(sqlalchemy.insert(tables.repository), named)
        [manifest] = connection.execute(
            sqlalchemy.select(tables.repository_manifest).where(tables.repository_manifest.c.digest == digest)
        ).mappings()
        connection.execute(
            sqlalchemy.insert(tables.repository_manifest),
            [{**manifest, "repository": name} for name in repositories[1:]],
        )
        common = {"repository": repositories[0], "digest": digest, "updated": now}
        connection.execute(sqlalchemy.insert(tables.tag), [{"name": tag, **common} for tag in tags])
    engine.dispose()


def _row(port: int, name: str, path: str, field: str, items: Sequence[str]) -> Row:
    middle = len(items) // 2
    times: dict[int, list[float]] = {}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for size in (100, 1000) * 20:
        expected = items[middle + 1 : middle + 1 + size]
        more = middle + 1 + size < len(items)
        taken = _read_page(connection, f"{path}?n={size}&last={items[middle]}", {}, field, expected, more=more)
        times.setdefault(size, []).append(taken)
    connection.close()
    medians = {size: statistics.median(found) for size, found in times.items()}
    note = ", ".join(f"n={size}: {medians[size]:.1f} ms, slowest {max(found):.1f}" for size, found in times.items())
    return Row(f"page of {name}", max(medians.values()), "ms", MUST_MS, "at most", note=note)


def _row_of_few(port: int, token: str, readable: Sequence[str], number: int) -> Row:
    headers, path = {"Authorization": f"Bearer {token}"}, "/v2/_catalog?n=1000"
    connection = http.client.HTTPConnection("127.0.0.1", port)
    # the first one also looks the token up
    first, *times = [_read_page(connection, path, headers, "repositories", readable, more=False) for _ in range(41)]
    connection.close()
    name = f"page of 1,000 of _catalog of {number:,}, for somebody who may read {len(readable)}"
    note = f"slowest {max(times):.1f} ms, first {first:.1f}"
    return Row(name, statistics.median(times), "ms", MUST_MS, "at most", note=note)


def _read_page(
    connection: http.client.HTTPConnection,
    path: str,
    headers: Mapping[str, str],
    field: str,
    expected: Sequence[str],
    *,
    more: bool,
) -> float:
    """Read a page and check what it has; returns milliseconds."""
    begun = time.perf_counter()
    connection.request("GET", path, headers=dict(headers))
    answer = connection.getresponse()
    body = answer.read()
    taken = (time.perf_counter() - begun) * 1000
    if json.loads(body).get(field) != list(expected) or more != ("Link" in answer.headers):
        raise RuntimeError(f"{path}: {answer.status} {body[:500]!r}")
    return taken
