"""Receives a large body straight from the socket, around the event loop.

The loop and the HTTP parser copy every byte three more times. For a large blob that costs more than hashing and writing
it. So this takes from the parser what it has already read, pauses the transport, and receives the rest in threads from
a duplicate of the socket's descriptor, the way `registry.http.transfer` sends.

The parser never sees the end of the body, so the connection cannot carry another request: `SPENT` makes
`registry.observer` announce that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator

from aiohttp import web

from storage.cancellation import to_end

LEAST = 4 << 20
"""The smallest body in bytes that is worth a connection."""

BUFFER = 1 << 20
AT_ONCE = 512 << 10
"""Bytes that must have arrived before a thread is woken."""

TURN = 16 << 20
"""The most bytes that a thread receives before others get a turn."""

SPENT = web.RequestKey("spent", bool)
"""Set on a request whose connection must be closed afterwards."""

Sink = Callable[[bytes | memoryview], None]
"""Takes bytes, in a thread; the buffer that it gets is reused afterwards."""


def goes_directly(request: web.Request) -> bool:
    """Whether the body is large, of known length, and neither encrypted nor compressed."""
    transport, length = request.transport, request.content_length
    if transport is None or length is None or length < LEAST:
        return False
    return transport.get_extra_info("sslcontext") is None and "Content-Encoding" not in request.headers


async def receive_directly(request: web.Request, sink: Sink, stall_seconds: float) -> None:
    """Pass the body of a request that `goes_directly` to `sink`.

    Raises ConnectionError or TimeoutError if the client is gone or sends nothing for `stall_seconds`; `sink` then has
    all bytes that arrived.
    """
    transport = request.transport
    assert transport is not None
    assert request.content_length is not None
    request[SPENT] = True
    # taking bytes resumes the parser and the transport; nothing else runs before the transport is paused again
    parsed = list(iter(request.content.read_nowait, b""))
    transport.pause_reading()
    left = request.content_length - sum(map(len, parsed))
    try:
        for data in parsed:
            await to_end(asyncio.to_thread(sink, data))
        with _duplicate(transport.get_extra_info("socket").fileno()) as received:
            await _receive(received, left, sink, stall_seconds)
    except BaseException:
        # a client that is still sending gets the answer only while somebody reads
        transport.resume_reading()
        raise
    request.content.feed_eof()


async def _receive(received: socket.socket, left: int, sink: Sink, stall_seconds: float) -> None:
    buffer = memoryview(bytearray(BUFFER))
    while left:
        received.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, min(left, AT_ONCE))
        stalled = not await _readable(received, stall_seconds)
        # a cancelled wait would leave the thread using the socket and the sink
        count = await to_end(asyncio.to_thread(_take, received, buffer, left, sink))
        left -= count
        if stalled and not count:
            raise TimeoutError


def _take(received: socket.socket, buffer: memoryview, most: int, sink: Sink) -> int:
    """Receive what has arrived, at most a turn's worth; raises ConnectionResetError at the end of the stream."""
    taken = 0
    while taken < min(most, TURN):
        try:
            count = received.recv_into(buffer[: most - taken])
        except BlockingIOError:
            break
        if count == 0:
            raise ConnectionResetError("the client is gone")
        sink(buffer[:count])
        taken += count
    return taken


async def _readable(received: socket.socket, seconds: float) -> bool:
    """Wait until enough has arrived or the stream has ended; False after `seconds`."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(received, _wake, ready)
    try:
        async with asyncio.timeout(seconds):
            await ready
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(received)
    return True


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


@contextlib.contextmanager
def _duplicate(descriptor: int) -> Iterator[socket.socket]:
    """A socket with a descriptor of its own: event loops refuse to watch one that belongs to a transport."""
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.setblocking(False)
        yield copy
