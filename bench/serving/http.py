"""Manifests and blob bytes per second: server and client on one core each, wrk as the client, peers in turn.

The peers of a run are measured alternately and their medians compared, since a machine is rarely quiet for long.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.row import Row
from bench.serving.http_server import MANIFEST_PATH
from bench.serving.load import in_turn, on_core, wait_for, wrk
from bench.serving.pushing import Pusher, digest_of

MANIFESTS_MUST = 10_000
MANIFESTS_MUST_OF_BARE = 0.8
BLOB_MUST_OF_NGINX = 0.9
BLOB_SIZE = 100 << 20

NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
    access_log off; sendfile on; tcp_nopush on;
    client_body_temp_path {directory}/t; proxy_temp_path {directory}/t; fastcgi_temp_path {directory}/t;
    uwsgi_temp_path {directory}/t; scgi_temp_path {directory}/t;
    server {{ listen 127.0.0.1:{port}; root {directory}/data; }}
}}
"""


def measure(*, short: bool = False) -> list[Row]:
    """All rows of this module; none if wrk is not installed."""
    if not shutil.which("wrk"):
        print("wrk is not installed: the HTTP side is not measured")
        return []
    return [*measure_manifest(short=short), *measure_blob(short=short)]


def measure_manifest(*, short: bool = False) -> list[Row]:
    """GET of a cached manifest by tag on 16 connections: requests per second, beside a bare aiohttp handler's."""
    # processes of the same program differ by a quarter for as long as they run, so there are several of each
    pairs = [_manifests_a_second() for _ in range(1 if short else 8)]
    value, peer = (statistics.median(each) for each in zip(*pairs, strict=True))
    name = "manifest GET by tag, cached"
    if value >= MANIFESTS_MUST:
        note = f"bare aiohttp handler in the same run: {peer:,.0f}/s, so {value / peer:.2f} of it"
        return [Row(name, value, "requests/s", MANIFESTS_MUST, "at least", note=note)]
    note = f"or at least {MANIFESTS_MUST:,}/s"
    return [Row(name, value, "requests/s", MANIFESTS_MUST_OF_BARE, "at least", "bare aiohttp handler", peer, note)]


def _manifests_a_second() -> list[float]:
    """Requests per second of one of our servers and a bare one, both new."""
    with tempfile.TemporaryDirectory() as directory, aiohttp_server("condery", directory) as ours:
        with aiohttp_server("bare", directory) as bare:
            urls = [f"http://127.0.0.1:{port}{MANIFEST_PATH}" for port in (ours, bare)]
            return alternating(urls, "Requests/sec", connections=16, runs=3, seconds=1)


def measure_blob(*, short: bool = False) -> list[Row]:
    """GET of 100 MiB on 3 connections, as many as docker opens: bytes per second, beside nginx's sendfile."""
    if not find_nginx():
        print("nginx is not installed: blobs are not measured")
        return []
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        # nginx may run its worker as another user
        directory.chmod(0o755)
        content = secrets.token_bytes(BLOB_SIZE)
        path = directory / "data" / "blob"
        path.parent.mkdir(mode=0o755)
        path.write_bytes(content)
        path.chmod(0o644)
        store = directory / "store"
        store.mkdir()
        with aiohttp_server("condery", str(store)) as ours, nginx_server(directory) as nginx:
            with Pusher(ours) as pusher:
                pusher.blob("bench", content, digest_of(content))
            urls = [f"http://127.0.0.1:{ours}/v2/bench/blobs/{digest_of(content)}", f"http://127.0.0.1:{nginx}/blob"]
            runs, seconds = (1, 1) if short else (5, 3)
            value, peer = alternating(urls, "Transfer/sec", connections=3, runs=runs, seconds=seconds)
    return [Row("blob GET, 100 MiB", value / 1e6, "MB/s", BLOB_MUST_OF_NGINX, "at least", "nginx", peer / 1e6)]


def alternating(urls: Sequence[str], figure: str, *, connections: int, runs: int, seconds: int) -> list[float]:
    """For each URL, the median of several runs of wrk, taken in turn."""
    for url in urls:
        wrk(url, figure, connections=connections, seconds=1)
    return in_turn([partial(wrk, url, figure, connections=connections, seconds=seconds) for url in urls], runs)


@contextlib.contextmanager
def aiohttp_server(kind: str, directory: str) -> Iterator[int]:
    """Run a server of `bench.serving.http_server` on the first core; yields its port."""
    command = [*on_core(0), sys.executable, "-m", "bench.serving.http_server", kind, directory]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        yield int(process.stdout.readline())
        process.stdin.close()


@contextlib.contextmanager
def nginx_server(directory: Path) -> Iterator[int]:
    """Run nginx over `directory`/data on the first core; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, port=port))
    program = find_nginx()
    assert program
    with subprocess.Popen([*on_core(0), program, "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(port)
            yield port
        finally:
            process.terminate()


def find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
