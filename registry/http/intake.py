"""Receives a request's body into an object: read in the event loop, hashed and written in threads, in batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from registry.errors import BodyBroken, BodyTooLarge
from registry.http.direct import goes_directly, receive_directly
from storage.cancellation import to_end
from storage.digest import Hasher
from storage.objects.protocol import ObjectWriter
from storage.quotas.arrivals import Arrival
from storage.repositories.uploads import Received

BATCH = 1 << 20
"""Bytes handed to a thread at once: few enough to buffer for many clients, enough to be worth the switch."""

MOST_CHUNKS = 1024
"""The most chunks in a batch: a client may send two bytes at a time, and each chunk is an object of 35."""


async def leave_to_reader(_request: web.Request) -> None:
    """Leave an Expect header until the request has been looked at."""


async def _invite(request: web.Request) -> None:
    """Tell a client that asked first (RFC 9110, section 10.1.1) to send its body, since nothing speaks against it."""
    if request.version == HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


Expect = Callable[[int], Awaitable[None]]
"""Called with the number of bytes to come, as far as it is known; raises the error that refuses them."""


async def receive(
    request: web.Request,
    writer: ObjectWriter,
    arrival: Arrival,
    hasher: Hasher | None,
    stall_seconds: float,
) -> Received:
    """Write the body to `writer`, the writer of the object of `arrival`, and commit it; `hasher` hashes it on the way.

    Raises QuotaExceeded; if the length is known, before the client is told to send. Raises BodyBroken if the body ends
    too soon or stalls; the object then holds what arrived. Any other error leaves nothing behind.
    """
    try:
        broken = None
        try:
            await arrival.expect(request.content_length or 1)
            await _invite(request)
            await _pump(request, writer, hasher, stall_seconds, arrival.expect)
        except _BROKEN as error:
            broken = error
        if broken is not None and writer.size == 0:
            await asyncio.to_thread(writer.abort)
            raise BodyBroken(0, None) from broken
        await to_end(asyncio.to_thread(writer.commit))
        received = Received(arrival.key, writer.size, hasher)
        if broken is not None:
            raise BodyBroken(writer.size, received) from broken
        return received
    except BodyBroken:
        raise
    except BaseException:
        await to_end(asyncio.to_thread(writer.abort))
        raise


_BROKEN = (ConnectionError, TimeoutError, RequestPayloadError, HttpProcessingError)


async def _pump(
    request: web.Request, writer: ObjectWriter, hasher: Hasher | None, stall_seconds: float, expect: Expect
) -> None:
    """Read the next batch while a thread takes the last one; never more than two are in memory."""
    if goes_directly(request):
        await receive_directly(request, lambda data: _take([data], writer, hasher), stall_seconds)
        return
    taking: asyncio.Future[None] | None = None
    size = 0
    try:
        async for batch in _batches(request, stall_seconds):
            size += sum(map(len, batch))
            await expect(size)
            if taking is not None:
                # not awaited directly: that would cancel it together with this task, and leave its thread at the writer
                await asyncio.wait([taking])
                taking.result()
            taking = asyncio.ensure_future(asyncio.to_thread(_take, batch, writer, hasher))
    finally:
        if taking is not None:
            # the thread must be done before the writer is touched; a full disk is reported before a lost client
            await asyncio.wait([taking])
            taking.result()


async def _batches(request: web.Request, stall_seconds: float) -> AsyncIterator[list[bytes]]:
    """Yield the body as lists of chunks; what was read before it broke comes before the error."""
    content = request.content
    batch: list[bytes] = []
    size = 0
    error: BaseException | None = None
    while True:
        try:
            async with asyncio.timeout(stall_seconds):
                chunk = await content.readany()
        except _BROKEN as problem:
            error, chunk = problem, b""
        if not chunk:
            break
        batch.append(chunk)
        size += len(chunk)
        if size >= BATCH or len(batch) >= MOST_CHUNKS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
    if error is not None:
        raise error


def _take(batch: Sequence[bytes | memoryview], writer: ObjectWriter, hasher: Hasher | None) -> None:
    for chunk in batch:
        if hasher is not None:
            hasher.update(chunk)
        writer.write(chunk)


async def read_limited(request: web.Request, most: int, stall_seconds: float) -> bytes:
    """Read a small body; raises BodyTooLarge, BodyBroken."""
    if request.content_length is not None and request.content_length > most:
        raise BodyTooLarge(most)
    body = bytearray()
    try:
        await _invite(request)
        async for batch in _batches(request, stall_seconds):
            for chunk in batch:
                body += chunk
            if len(body) > most:
                raise BodyTooLarge(most)
    except _BROKEN as error:
        raise BodyBroken(len(body), None) from error
    return bytes(body)
