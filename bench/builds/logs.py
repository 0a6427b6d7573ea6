"""The log of a build: twice the lines in twice the time, and readers that do not slow its writer down.

The writer is in the process of the server, as a build is; the readers are in a process of their own, and follow over
HTTP. A build does its work in other processes and says what it hears from them. One that does nothing but writing as
fast as it can shares its processor with what is sent to the readers. Each figure is the best of several runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from auth.permission import PUBLIC
from bench.row import Row
from registry.api.logs import stream_log
from registry.dispatch import Route
from registry.routes import ROUTES
from storage.environments.log_writing import LogWriters
from tests.support.registry.serving import Site, serving

LINES = 100_000
READERS = 20
RUNS = 3
PAUSE = 0.01
"""Seconds between a hundred lines and the next of a build that says much."""
LINE = "downloading and unpacking package number {} of this environment, which is like many another line of a log"

READS = """
import asyncio, os, sys, aiohttp

# other machines have processors of their own
os.nice(19)

async def read(client, ready):
    count, word, rest = 0, b"event: line", b""
    async with client.get(sys.argv[1]) as response:
        ready.release()
        async for chunk in response.content.iter_any():
            count += (rest + chunk).count(word)
            rest = (rest + chunk)[1 - len(word):]
    return count

async def main():
    number, ready = int(sys.argv[2]), asyncio.Semaphore(0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        tasks = [asyncio.create_task(read(client, ready)) for _ in range(number)]
        for _ in tasks:
            await ready.acquire()
        print("ready", flush=True)
        print(*await asyncio.gather(*tasks), flush=True)

asyncio.run(main())
"""


async def _get_log(request: web.Request) -> web.StreamResponse:
    return await stream_log(request, int(request.match_info["build"]), follow=True)


@dataclass
class Times:
    """Seconds of all runs."""

    half: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    whole_read: list[float] = field(default_factory=list)
    paced: list[float] = field(default_factory=list)
    paced_read: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    """Until readers had what had been written as fast as possible, after that."""


def measure(*, short: bool = False) -> list[Row]:
    lines, runs = (LINES // 10, 1) if short else (LINES, RUNS)
    times = asyncio.run(_measure(lines, runs))
    whole = min(times.whole)
    rate = f"{100 / PAUSE:,.0f} lines a second"
    return [
        Row(f"log of {lines:,} lines", whole, "s", 2.3, "at most", f"{lines // 2:,} lines", min(times.half),
            note=f"{whole / lines * 1e6:.1f} us a line, as fast as possible"),
        Row(f"log of {lines:,} lines, {READERS} live readers", min(times.paced_read), "s", 1.1, "at most", "no reader",
            min(times.paced), note=f"of a build that says at most {rate}"),
        Row(f"log of {lines:,} lines, {READERS} live readers, as fast as possible", min(times.whole_read), "s", 2.5,
            "at most", "no reader", whole, note=f"readers have all of it {min(times.late):.2f} s later"),
    ]  # fmt: skip


async def _measure(lines: int, runs: int) -> Times:
    times = Times()
    async with _site() as site:
        builds = iter(range(1, 1000))
        await _write(site, next(builds), lines // 10)
        for _ in range(runs):
            times.half.append(await _write(site, next(builds), lines // 2))
            times.whole.append(await _write(site, next(builds), lines))
            seconds, late = await _write_for_readers(site, next(builds), lines)
            times.whole_read.append(seconds)
            times.late.append(late)
            times.paced.append(await _write(site, next(builds), lines, PAUSE))
            times.paced_read.append((await _write_for_readers(site, next(builds), lines, PAUSE))[0])
    return times


@contextlib.asynccontextmanager
async def _site() -> AsyncIterator[Site]:
    routes = (*ROUTES, Route(("GET",), "/bench/{build}/logs", PUBLIC, _get_log, "rest", "a log"))
    with tempfile.TemporaryDirectory() as directory:
        async with serving(Path(directory), routes=routes) as site:
            yield site


async def _write(site: Site, build: int, lines: int, pause: float = 0.0) -> float:
    """Seconds until the last line is in the database; then end the log."""
    writers = LogWriters(site.workshop.store.environments.logs)
    writer = writers.open(build)
    begun = time.perf_counter()
    for number in range(lines):
        writer.write("line", LINE.format(number))
        if number % 100 == 0:
            await asyncio.sleep(pause)
            await writer.make_room()
    await writer.flush()
    seconds = time.perf_counter() - begun
    await writers.end(writer)
    await writers.close()
    return seconds


async def _write_for_readers(site: Site, build: int, lines: int, pause: float = 0.0) -> tuple[float, float]:
    """Seconds likewise, and those after which the last reader has everything."""
    url = f"{site.url}/bench/{build}/logs"
    readers = await asyncio.create_subprocess_exec(sys.executable, "-c", READS, url, str(READERS), stdout=PIPE)
    assert readers.stdout is not None
    await readers.stdout.readline()
    seconds = await _write(site, build, lines, pause)
    begun = time.perf_counter()
    counts = [int(count) for count in (await readers.stdout.readline()).split()]
    assert counts == [lines] * READERS, f"readers got {counts}"
    await readers.wait()
    return seconds, time.perf_counter() - begun
