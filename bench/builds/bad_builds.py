"""A stranger's pulls while somebody else's bad builds are running, compared with the same pulls from an idle server.

The server with all that it starts has one core and the stranger another, as in other rows: the stranger's machine is
another one. On cores that they share, a request takes 1.3 or 2.0 ms, depending on which of them the kernel happens to
run the two on, with and without bad builds.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from bench.row import Row
from bench.serving.load import on_core, this_process_on_core
from builder.work.priority import give_way
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel
from tests.support.server import Server
from tests.support.servers.channel_server import ChannelServer, in_a_thread
from tests.support.servers.slow import SlowServer, make_hard_channel

PACKAGES = 20
EIGHT = range(8)
NINE = range(9)
STRANGER = "198.51.100.1"
FIRST_SECONDS = 1.0
"""From the bad builds to the first pull."""
LATER_SECONDS = 20.0
"""From then on to further pulls: every hard solve has used up its shorter tries by then."""
KNOWN = 40
"""Pulls of the known image after each of a new one: one takes 2 ms."""
NETWORK = 125e6
"""Bytes per second that the channels of bad builds send together (1 Gbit/s)."""
ROOT = "conda-store-dynamic"
KINDS = ("idle", "first", "later")
"""Of pulls, each of packages of its own."""


def measure(*, short: bool) -> list[Row]:
    repetitions, megabytes = (1, 5) if short else (7, 200)
    with tempfile.TemporaryDirectory() as work:
        site = Path(work) / "channels"
        make_channels(site, repetitions, megabytes)
        good = ChannelServer(site)
        with (
            in_a_thread(good),
            bad_channels(site) as bad,
            server(Path(work), good.url, bad) as running,
            stranger() as pool,
        ):

            def pull(kind: str) -> tuple[float, float]:
                return pool.submit(pulls, running.url, kind, repetitions).result()

            new_idle, known_idle = pull("idle")
            rows = []
            with bad_builds(running):
                for kind, seconds in (("first", FIRST_SECONDS), ("later", 2 if short else LATER_SECONDS)):
                    time.sleep(seconds)
                    new, known = pull(kind)
                    note = (
                        f"from {seconds:g} s after 8 hung channels, 9 hard solves, 8 archives of {megabytes} MB and "
                        f"more; {count_unfinished(running)} of the 17 others still running at the end"
                    )
                    rows += [
                        Row(
                            f"a new image of {PACKAGES} packages beside bad builds, {kind}",
                            *(new, "s", 2, "at most", "idle", new_idle, note),
                        ),
                        Row(
                            f"a known image beside bad builds, {kind}",
                            *(known * 1e3, "ms", 1.2, "at most", "idle", known_idle * 1e3, note),
                        ),
                    ]
    return rows


def make_channels(site: Path, repetitions: int, megabytes: int) -> None:
    content = [os.urandom(10_000) * 3 for _ in range(20)]
    packages = [
        Package(
            name=f"{kind}{repetition}-{number}",
            files={f"share/{kind}{repetition}-{number}/{index}": File(each) for index, each in enumerate(content)},
        )
        for kind in KINDS
        for repetition in range(repetitions)
        for number in range(PACKAGES)
    ]
    packages += [Package(name="known", files={"share/known": File(content[0])})]
    asyncio.run(make_channel(site / "good", packages))
    big = [
        Package(name=f"big{number}", files={f"share/big{number}": File(os.urandom(megabytes << 20))})
        for number in EIGHT
    ]
    asyncio.run(make_channel(site / "big", big))
    for number in range(4):
        asyncio.run(make_channel(site / f"slow{number}", [Package(name=f"stuck{number}", version="stuck")]))
    make_hard_channel(site / "hard", [f"hard{number}" for number in NINE])


@contextlib.contextmanager
def stranger() -> Iterator[ProcessPoolExecutor]:
    """A process for the stranger's pulls: in this one they would wait for the interpreter, which serves the channels
    and requests the bad builds."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(os.getpid).result()
        yield pool


@contextlib.contextmanager
def bad_channels(site: Path) -> Iterator[str]:
    """The URL of the channels of the bad builds.

    They stand for other people's machines: their process takes this one's processors last, and they send at the speed
    of a network.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve_bad_channels, args=(site, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def serve_bad_channels(site: Path, ready: Connection) -> None:
    """Send the URL to `ready`, and serve until this process is killed."""
    give_way(19)
    slow = SlowServer(site, slow=["/hung", "stuck-"], rate=NETWORK)
    with in_a_thread(slow):
        ready.send(slow.url)
        threading.Event().wait()


@contextlib.contextmanager
def server(work: Path, good: str, bad: str) -> Iterator[Server]:
    flags = ["--channels", f"{good}/good", "--channel-alias", bad, "--allowed-channels", f"{good}/*,{bad}/*"]
    flags += ["--base", "scratch", "--trusted-proxies", "127.0.0.1"]
    flags += ["--anonymous-bindings", "*=editor"]
    running = Server(tuple(flags), work / "data", work / "log", prefix=tuple(on_core(0)))
    running.start()
    try:
        get(running.url, f"{ROOT}/known", STRANGER)
        yield running
    finally:
        running.kill()


def get(server_url: str, repository: str, caller: str) -> float:
    """Seconds until the whole image has arrived."""
    begun = time.perf_counter()
    index = json.loads(ask(server_url, f"/v2/{repository}/manifests/latest", caller))
    for child in index["manifests"]:
        manifest = json.loads(ask(server_url, f"/v2/{repository}/manifests/{child['digest']}", caller))
        for blob in (manifest["config"], *manifest["layers"]):
            ask(server_url, f"/v2/{repository}/blobs/{blob['digest']}", caller)
    return time.perf_counter() - begun


def ask(server_url: str, path: str, caller: str, method: str = "GET") -> bytes:
    request = urllib.request.Request(server_url + path, headers={"X-Forwarded-For": caller}, method=method)
    with urllib.request.urlopen(request) as response:
        content: bytes = response.read()
    return content


def pulls(server_url: str, kind: str, repetitions: int) -> tuple[float, float]:
    """Median seconds for new images, and for a known one."""
    new, known = [], []
    with this_process_on_core(-1):
        for repetition in range(repetitions):
            os.sync()
            items = "/".join(f"{kind}{repetition}-{number}" for number in range(PACKAGES))
            new.append(get(server_url, f"{ROOT}/{items}", STRANGER))
            known += [get(server_url, f"{ROOT}/known", STRANGER) for _ in range(KNOWN)]
    return statistics.median(new), statistics.median(known)


@contextlib.contextmanager
def bad_builds(running: Server) -> Iterator[None]:
    """Request all bad builds, each from its own address, as long as the block runs."""
    paths = [f"/v2/{ROOT}/channel.hung{number}/any/manifests/latest" for number in range(4)]
    paths += [f"/v2/{ROOT}/channel.slow{number}/stuck{number}/manifests/latest" for number in range(4)]
    paths += [f"/v2/{ROOT}/channel.hard/hard{number}/manifests/latest" for number in NINE]
    # a finished archive is not requested again, but another one is: there are always eight to make
    wishes = [*([path] for path in paths), *map(archives, EIGHT)]
    stopped = threading.Event()

    def insist(wished: list[str], caller: str) -> None:
        while wished and not stopped.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                ask(running.url, wished[0], caller, "HEAD" if wished[0].startswith("/files/") else "GET")
                del wished[0]
            stopped.wait(1)

    for number, wished in enumerate(wishes):
        threading.Thread(target=insist, args=(wished, f"203.0.113.{number}"), daemon=True).start()
    try:
        yield
    finally:
        stopped.set()


def archives(number: int) -> list[str]:
    """Archives of one big package, then of more and more of them."""
    names = [f"big{(number + offset) % len(EIGHT)}" for offset in EIGHT]
    return [
        f"/files/{ROOT}/channel.big/{'/'.join(names[:count])}/latest/archive.tar.gz" for count in range(1, len(names))
    ]


def count_unfinished(running: Server) -> int:
    """How many bad builds, archives aside, have no end in the server's log."""
    ended = [
        line["specs"][0].rpartition("::")[2].rstrip("0123456789")
        # the server also says a thing or two that is no JSON
        for line in (json.loads(each) for each in running.log.read_text().splitlines() if each.startswith("{"))
        if line["event"] in ("build completed", "build failed")
    ]
    return 17 - sum(name in ("any", "stuck", "hard") for name in ended)
