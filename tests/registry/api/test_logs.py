"""Logs over HTTP, of builds that another process works on: whole, live, after a cut, and for readers that hang."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from auth.permission import PUBLIC
from registry.api import logs as module
from registry.api.logs import stream_events, stream_log
from registry.dispatch import Route
from registry.http.settings import HttpSettings
from registry.http.streams import BEAT
from registry.parts import STREAMS
from registry.routes import ROUTES
from storage.environments.log_record import write_records
from storage.environments.logs import Appended, LogState
from tests.support.registry.serving import Site, serving

LONG = 60.0


ENDED: set[int] = set()
"""Builds that have ended though their logs have not."""


async def get_log(request: web.Request) -> web.StreamResponse:
    build = int(request.match_info["build"])

    async def is_over() -> bool:
        return build in ENDED

    return await stream_log(request, build, follow=request.query.get("follow") == "1", is_over=is_over)


async def get_events(request: web.Request) -> web.StreamResponse:
    return await stream_events(request, int(request.match_info["build"]))


TESTED = (
    *ROUTES,
    Route(("GET", "HEAD"), "/test/{build}/logs", PUBLIC, get_log, "rest", "a log"),
    Route(("GET", "HEAD"), "/test/{build}/events", PUBLIC, get_events, "rest", "events"),
)


@contextlib.asynccontextmanager
async def open_site(directory: Path, url: str, settings: HttpSettings | None = None) -> AsyncIterator[Site]:
    async with serving(directory, settings, database=url, routes=TESTED) as site:
        yield site


@pytest.fixture
async def site(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with open_site(tmp_path, database_url) as opened:
        yield opened


WRITES = """
import asyncio, sys
from pathlib import Path
from storage.blobs.store import BlobStore
from storage.database.engine import Database
from storage.environments.log_writing import LogWriters
from storage.environments.logs import Logs
from storage.objects.files import FileObjects

async def main():
    root, build = Path(sys.argv[2]), int(sys.argv[3])
    database = Database.open(sys.argv[1])
    writers = LogWriters(Logs(BlobStore(database, FileObjects(root / "blobs"), root / "fragments")))
    writer = writers.open(build)
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    number = 0
    while line := (await reader.readline()).decode().split():
        if line[0] == "lines":
            for _ in range(int(line[1])):
                writer.write("line", f"{number} {'x' * int(line[2])}")
                number += 1
                await writer.make_room()
        elif line[0] == "state":
            writer.write("state", line[1], {"status": line[1]})
        await writer.flush()
        if line[0] == "end":
            await writers.end(writer)
        print("done", flush=True)

asyncio.run(main())
"""


@dataclass
class Builder:
    """Another process that writes the log of build 7."""

    process: Process

    async def do(self, *words: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{' '.join(map(str, words))}\n".encode())
        async with asyncio.timeout(LONG):
            assert await self.process.stdout.readline() == b"done\n"


@pytest.fixture
async def builder(tmp_path: Path, database_url: str) -> AsyncIterator[Builder]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITES, database_url, str(tmp_path), "7", stdin=PIPE, stdout=PIPE
    )
    try:
        yield Builder(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@dataclass
class Event:
    kind: str
    position: int
    data: str


async def read_events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/event-stream"
    fields: dict[str, str] = {}
    while line := (await response.content.readline()).decode():
        name, _, value = line.rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "event" in fields:
            yield Event(fields["event"], int(fields["id"]), fields["data"])
            fields = {}


async def follow(site: Site, path: str = "/test/7/logs?follow=1", **headers: str) -> list[Event]:
    async with asyncio.timeout(4 * LONG), site.request("GET", path, headers=headers) as response:
        return [event async for event in read_events(response)]


def numbers_of(events: list[Event]) -> list[int]:
    """The numbers of lines, which are `TIME NUMBER xxx`."""
    return [int(event.data.split()[1]) for event in events if event.kind == "line"]


async def test_a_whole_log_is_text_while_it_is_written_and_afterwards(site: Site, builder: Builder) -> None:
    await builder.do("lines", 5000, 100)
    for ended in (False, True):
        async with site.request("GET", "/test/7/logs") as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
            lines = (await response.text()).splitlines()
        assert [int(line.split()[1]) for line in lines] == list(range(5000))
        assert lines[0].split()[0].endswith("Z")
        if not ended:
            await builder.do("end")
    async with site.request("HEAD", "/test/7/logs") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_a_log_that_is_not_there_yet_is_empty(site: Site) -> None:
    async with site.request("GET", "/test/7/logs") as response:
        assert (response.status, await response.text()) == (200, "")


async def test_twenty_readers_get_every_line_as_it_comes(site: Site, builder: Builder) -> None:
    early = [asyncio.create_task(follow(site)) for _ in range(10)]
    for _ in range(10):
        await builder.do("lines", 300, 100)
    late = [asyncio.create_task(follow(site)) for _ in range(9)]
    late.append(asyncio.create_task(follow(site, "/test/7/logs", Accept="text/event-stream")))
    await builder.do("lines", 300, 100)
    await builder.do("end")
    for task in (*early, *late):
        events = await task
        assert numbers_of(events) == list(range(3300))
        assert [event.kind for event in events[-2:]] == ["line", "end"]


async def test_who_was_cut_off_goes_on_where_they_were_until_the_end(site: Site, builder: Builder) -> None:
    await builder.do("lines", 50, 10)
    first: list[Event] = []
    async with site.request("GET", "/test/7/logs?follow=1") as response:
        async for event in read_events(response):
            first.append(event)
            if len(first) == 20:
                break
    await builder.do("lines", 50, 10)
    await builder.do("end")
    second = await follow(site, **{"Last-Event-ID": str(first[-1].position)})
    assert numbers_of(first) + numbers_of(second) == list(range(100))
    async with site.request(
        "GET", "/test/7/logs?follow=1", headers={"Last-Event-ID": str(second[-1].position)}
    ) as response:
        assert response.status == 204
    # what is no position of ours is none
    for odd in ("-1", "x", "9" * 40):
        assert numbers_of(await follow(site, **{"Last-Event-ID": odd})) == list(range(100))


async def test_events_are_documents_and_no_mere_lines(site: Site, builder: Builder) -> None:
    task = asyncio.create_task(follow(site, "/test/7/events"))
    await builder.do("state", "BUILDING")
    await builder.do("lines", 100, 10)
    await builder.do("state", "COMPLETED")
    await builder.do("end")
    events = await task
    assert [event.kind for event in events] == ["state", "state", "end"]
    documents = [json.loads(event.data) for event in events[:2]]
    assert [document["data"] for document in documents] == [{"status": "BUILDING"}, {"status": "COMPLETED"}]
    assert {*documents[0]} == {"at", "kind", "text", "data"}


async def test_no_proxy_keeps_or_collects_it(site: Site, builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    # that somebody has hung up is noticed when something is sent
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.1)
    await builder.do("lines", 1, 1)
    for path in ("/test/7/logs", "/test/7/logs?follow=1", "/test/7/events"):
        async with site.request("GET", path) as response:
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Accel-Buffering"] == "no"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Content-Encoding" not in response.headers


async def test_signs_of_life_and_the_end_of_a_build_whose_writer_was_killed(
    site: Site, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(module, "LAST_SECONDS", 0.3)
    monkeypatch.setattr(sys.modules[__name__], "ENDED", set())
    await builder.do("lines", 3, 1)
    builder.process.kill()
    async with asyncio.timeout(LONG), site.request("GET", "/test/7/logs?follow=1") as response:
        beats = 0
        async for line in response.content:
            beats += line == BEAT.splitlines(keepends=True)[0]
            if beats == 3:
                ENDED.add(7)
        assert beats >= 3
        assert line == b"\n"
    events = await follow(site)
    assert [event.kind for event in events] == ["line", "line", "line", "end"]


async def test_a_stream_ends_when_the_server_stops_and_the_client_may_ask_again(site: Site, builder: Builder) -> None:
    await builder.do("lines", 3, 1)
    task = asyncio.create_task(follow(site))
    async with asyncio.timeout(LONG):
        while not site.app[STREAMS]._open:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        site.stop_accepting()
        events = await task
    assert [event.kind for event in events] == ["line", "line", "line"]


async def test_one_sender_follows_only_so_many(
    tmp_path: Path, database_url: str, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.1)
    await builder.do("lines", 1, 1)
    async with (
        open_site(tmp_path, database_url, HttpSettings(streams_per_sender=3)) as site,
        contextlib.AsyncExitStack() as stack,
    ):
        for path in ("/test/7/logs?follow=1", "/test/7/events", "/test/8/events"):
            response = await stack.enter_async_context(site.request("GET", path))
            assert response.status == 200
        async with site.request("GET", "/test/7/logs?follow=1") as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "30"
            assert "streams_per_sender" in (await response.json())["message"]
        async with site.request("GET", "/test/7/logs") as response:
            assert response.status == 200
        await stack.aclose()
        async with asyncio.timeout(LONG):
            while site.app[STREAMS]._open:
                await asyncio.sleep(0.01)
        async with site.request("GET", "/test/7/logs?follow=1") as response:
            assert response.status == 200


async def test_a_reader_that_hangs_holds_nobody_up_and_is_cut(
    tmp_path: Path, database_url: str, builder: Builder
) -> None:
    async with open_site(tmp_path, database_url, HttpSettings(stall_seconds=1)) as site:
        with contextlib.closing(socket.create_connection(site.host_port)) as hanging:
            hanging.sendall(b"GET /test/7/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(LONG):
                while not site.app[STREAMS]._open:
                    await asyncio.sleep(0.01)
            reading = asyncio.create_task(follow(site))
            # more than all buffers on the way hold
            for _ in range(20):
                await builder.do("lines", 1000, 1000)
            await builder.do("end")
            assert numbers_of(await reading) == list(range(20_000))
            async with asyncio.timeout(LONG):
                while site.app[STREAMS]._open:
                    await asyncio.sleep(0.01)


async def test_what_the_log_says_commands_neither_a_terminal_nor_a_stream(site: Site) -> None:
    text = "a\x1b[31m\r\nevent: end\r\rdata: {}\u2028\x9bb"
    content = b"".join(write_records("state", text, {"text": text}))
    logs = site.workshop.store.environments.logs
    await logs.append([Appended(7, content, begins=True)])
    await logs.finish(7)
    assert await logs.find(7) == LogState(len(content), ended=True)
    for path in ("/test/7/logs", "/test/7/logs?follow=1", "/test/7/events"):
        async with site.request("GET", path) as response:
            got = await response.text()
        assert not set(got) & set("\x1b\r\u2028\x9b")
        if "follow" in path or "events" in path:
            assert got.count("event: end\n") == 1 + got.count(" event: end\n")
