"""The log of a build: whole, or as it grows. Whoever calls these functions has checked that the sender may read it.

A log is text, a line for each record, with its time. `follow=1`, or the media type of server-sent events, asks for a
stream of these lines; the events of a build are another stream. Both begin with what is there already, and end with
the event `end`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import orjson
from aiohttp import web

from registry.http.streams import (
    BEAT,
    BEAT_SECONDS,
    EVENTS,
    HEADERS,
    MOST_SECONDS,
    RETRY,
    resumed_at,
    wants_events,
    write_event,
)
from registry.http.transfer import send_chunks
from registry.parts import PARTS, SETTINGS, STOPPING, STREAMS
from registry.rates import caller_of
from storage.environments.log_following import LogFollowing, LogReader
from storage.environments.log_record import read_records
from storage.environments.logs import Logs, LogState, Page, View
from storage.text import printable_json

LOOK_SECONDS = 0.05
RIGHTS_SECONDS = 2.0
"""After so long, nothing more is sent before it is known that the sender may still read it."""
LAST_SECONDS = 2.0
"""For what was written just before a build ended, and not seen yet."""

TEXT = "text/plain; charset=utf-8"

IsOver = Callable[[], Awaitable[bool]]
"""Asked now and then while nothing comes: whether nothing will, since the build has ended. The end of a log is noticed
without it, unless whoever wrote the log died."""
MayRead = Callable[[], Awaitable[bool]]
"""Whether whoever follows may still read it; a stream ends when that is not so."""


async def never() -> bool:
    return False


async def always() -> bool:
    return True


async def stream_log(
    request: web.Request, build: int, *, follow: bool = False, is_over: IsOver = never, may_read: MayRead = always
) -> web.StreamResponse:
    """Answer with the log of a build as it is now, or with `follow` as it grows. Raises TooManyStreams, StorageError.

    A log that is not there yet is empty.
    """
    if follow or wants_events(request):
        return await _stream(request, build, write_line_events, is_over, may_read)
    logs = _following(request).logs
    state = await _find_end(logs, build, is_over)
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": TEXT})
    if request.method == "HEAD":
        return response
    await send_chunks(request, response, _read_text(logs, build, state.size), request.app[SETTINGS].stall_seconds)
    return response


async def stream_events(
    request: web.Request, build: int, *, is_over: IsOver = never, may_read: MayRead = always
) -> web.StreamResponse:
    """Answer with the events of a build as they happen. Raises TooManyStreams, StorageError."""
    return await _stream(request, build, write_json_events, is_over, may_read)


async def _find_end(logs: Logs, build: int, is_over: IsOver) -> LogState:
    """The state of a log: that of its end if the build has ended, which the log learns moments later."""
    deadline = time.monotonic() + LAST_SECONDS
    while True:
        state = await logs.find(build) or LogState(0, ended=False)
        if state.ended or time.monotonic() > deadline or not await is_over():
            return state
        await asyncio.sleep(LOOK_SECONDS)


def _following(request: web.Request) -> LogFollowing:
    following = request.app[PARTS].logs
    assert following is not None, "whoever has routes for logs opens them"
    return following


async def _read_text(logs: Logs, build: int, size: int) -> AsyncGenerator[bytes, None]:
    position = 0
    while position < size and (page := await logs.read(build, position)).content:
        yield write_text(page.position, page.content)
        position = page.stop


async def _stream(
    request: web.Request, build: int, view: View, is_over: IsOver, may_read: MayRead
) -> web.StreamResponse:
    following, position = _following(request), resumed_at(request)
    if position is not None and await _has_ended_at(following.logs, build, position):
        # tells EventSource not to ask again
        return web.Response(status=204, headers=HEADERS)
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": EVENTS})
    if request.method == "HEAD":
        return response
    with (
        request.app[STREAMS].one_of(caller_of(request).name),
        following.reading(build, position or 0) as reader,
    ):
        chunks = _follow(reader, view, is_over, may_read, request.app[STOPPING])
        await send_chunks(request, response, chunks, request.app[SETTINGS].stall_seconds)
    return response


async def _has_ended_at(logs: Logs, build: int, position: int) -> bool:
    state = await logs.find(build)
    return state is not None and state.ended and position >= state.size


async def _follow(
    reader: LogReader, view: View, is_over: IsOver, may_read: MayRead, stopping: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    """What the client gets. It ends without the event `end` if the client should ask again."""
    yield RETRY
    begun = sent = allowed = time.monotonic()
    stop, is_last = asyncio.create_task(stopping.wait()), False
    try:
        while not stop.done() and time.monotonic() - begun < MOST_SECONDS:
            until_beat = max(sent + BEAT_SECONDS - time.monotonic(), 0.0)
            page = await _next(reader, LAST_SECONDS if is_last else until_beat, stop)
            if time.monotonic() - allowed >= RIGHTS_SECONDS:
                if not await may_read():
                    return
                allowed = time.monotonic()
            events = page.through(view) if page is not None else b""
            if not events and page is None and (reader.is_over or is_last):
                yield write_event("end", reader.position, "{}")
                return
            if not events and time.monotonic() - sent >= BEAT_SECONDS:
                events = BEAT
                is_last = await is_over()
            if events:
                sent = time.monotonic()
                yield events
    finally:
        stop.cancel()


async def _next(reader: LogReader, seconds: float, stop: asyncio.Task[bool]) -> Page | None:
    """The next page; None if none comes within so many seconds, or before the server stops."""
    reading = asyncio.create_task(reader.next(seconds))
    try:
        await asyncio.wait({reading, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return None if reading.cancelled() else reading.result()


def write_text(_position: int, content: bytes) -> bytes:
    """A `storage.environments.logs.View`: a line of text for each record."""
    return "".join(f"{record.to_text()}\n" for record, _ in read_records(content)).encode()


def write_line_events(position: int, content: bytes) -> bytes:
    """A View: the same lines as server-sent events."""
    events = []
    for record, size in read_records(content):
        position += size
        events.append(write_event("line", position, record.to_text()))
    return b"".join(events)


def write_json_events(position: int, content: bytes) -> bytes:
    """A View: what is not a mere line, as server-sent events with documents."""
    events = []
    for record, size in read_records(content):
        position += size
        if record.is_event:
            document = printable_json(orjson.dumps(record.to_json()).decode())
            events.append(write_event(record.kind, position, document))
    return b"".join(events)
