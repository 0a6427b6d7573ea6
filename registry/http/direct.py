"""Taking a large body straight from the socket, without passing it through the event loop.

On its way through the loop and the HTTP parser every byte is copied three times more, which for large blobs costs more
than hashing and writing them. So what the parser has read of a body is taken from it, the transport is paused, and the
rest is received in threads from a duplicate of the socket's descriptor, as `registry.http.transfer` sends.

The parser then never sees the end of the body, so the connection cannot be used for another request: `SPENT` tells
`registry.observer` to say so.
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
"""Bytes of a body for which it is worth a connection."""

BUFFER = 1 << 20
AT_ONCE = 512 << 10
"""Bytes that have come before a thread is woken."""

TURN = 16 << 20
"""Bytes a thread takes at most before others get it."""

SPENT = web.RequestKey("spent", bool)
"""Set for a request after which its connection has to be closed."""

Sink = Callable[[bytes | memoryview], None]
"""Takes bytes, in a thread; what it is given changes afterwards."""


def goes_directly(request: web.Request) -> bool:
    """Whether the body is large, and comes as it is: with a known length, not encrypted and not compressed."""
    transport, length = request.transport, request.content_length
    if transport is None or length is None or length < LEAST:
        return False
    return transport.get_extra_info("sslcontext") is None and "Content-Encoding" not in request.headers


async def receive_directly(request: web.Request, sink: Sink, stall_seconds: float) -> None:
    """Give the body of a request that `goes_directly` to `sink`.

    Raises ConnectionError or TimeoutError when the client is gone or sends nothing for `stall_seconds`; `sink` has then
    got all that came.
    """
    transport = request.transport
    assert transport is not None
    assert request.content_length is not None
    request[SPENT] = True
    # taking from the parser makes it go on, and the transport too; nothing else happens before that is paused
    parsed = list(iter(request.content.read_nowait, b""))
    transport.pause_reading()
    left = request.content_length - sum(map(len, parsed))
    try:
        for data in parsed:
            await to_end(asyncio.to_thread(sink, data))
        with _duplicate(transport.get_extra_info("socket").fileno()) as received:
            await _receive(received, left, sink, stall_seconds)
    except BaseException:
        # the answer reaches a client that is still sending only while somebody reads
        transport.resume_reading()
        raise
    request.content.feed_eof()


async def _receive(received: socket.socket, left: int, sink: Sink, stall_seconds: float) -> None:
    buffer = memoryview(bytearray(BUFFER))
    while left:
        received.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, min(left, AT_ONCE))
        stalled = not await _readable(received, stall_seconds)
        # a cancelled wait would leave the thread at the socket and the sink
        count = await to_end(asyncio.to_thread(_take, received, buffer, left, sink))
        left -= count
        if stalled and not count:
            raise TimeoutError


def _take(received: socket.socket, buffer: memoryview, most: int, sink: Sink) -> int:
    """What is there by now, and at most a turn of it; raises ConnectionResetError at its end."""
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
    """Wait until enough has come, or the end; False after `seconds`."""
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
    """A socket of its own: loops refuse to watch one that belongs to a transport."""
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.setblocking(False)
        yield copy
