"""Sends content: its headers, then its segments straight from the page cache to the socket.

aiohttp's FileResponse needs `loop.sendfile`, which uvloop lacks, and sends a single file, while a layer is many ranges.
So the headers go through the transport as usual. Once its buffer is empty, the segments are written to a duplicate of
the socket's descriptor: the loop refuses to watch the original, which belongs to the transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from aiohttp import web

from registry.http.ranges import Span, matches, parse_range
from storage.blobs.rows import StoredBlob
from storage.blobs.store import BlobStore
from storage.digest import Digest
from storage.objects.segments import FileRange, Segment, StreamRange, read_segment

SENDFILE_MOST = 1 << 20
"""Bytes per sendfile(2): the loop serves others in between."""

COPY_CHUNK = 256 << 10
PAUSE_EVERY = 4


async def send_content(
    request: web.Request,
    blobs: BlobStore,
    blob: StoredBlob,
    headers: Mapping[str, str],
    *,
    stall_seconds: float,
) -> web.StreamResponse:
    """Answer a GET or HEAD of a blob, whole or in part; `headers` are added to its own.

    If the store gives out links, a GET is redirected there, and the store handles Range and the rest. Raises
    ObjectMissing.
    """
    common = content_headers(blob.digest, headers)
    if "If-None-Match" in request.headers and matches(request.headers["If-None-Match"], common["ETag"]):
        return web.Response(status=304, headers=common)
    if request.method == "GET" and (link := await blobs.link(blob, headers.get("Content-Type", ""))) is not None:
        return web.Response(status=307, headers={**common, "Location": link, "Cache-Control": "no-store"})
    response, span = answer_of_part(request, common, blob.size)
    if span is None:
        return response
    segments = blobs.segments(blob, span.start, span.stop)
    await send_segments(request, response, segments, stall_seconds)
    return response


def content_headers(digest: Digest, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers for the content of `digest`, whole or in part, together with `headers`."""
    return {
        **headers,
        "ETag": f'"{digest}"',
        "Docker-Content-Digest": digest,
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }


def answer_of_part(
    request: web.Request, headers: Mapping[str, str], size: int
) -> tuple[web.StreamResponse, Span | None]:
    """The answer without its body, and the span of the `size` bytes to send; None if there is no body."""
    span = parse_range(_range_header(request, headers["ETag"]), size)
    if span == "unsatisfiable":
        return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{size}"}), None
    status, part = (200, Span(0, size)) if span == "whole" else (206, span)
    response = web.StreamResponse(status=status, headers=headers)
    response.headers["Content-Length"] = str(part.stop - part.start)
    if status == 206:
        response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    return response, part if request.method != "HEAD" else None


def _range_header(request: web.Request, etag: str) -> str | None:
    """The Range header if it applies: for GET (RFC 9110, section 14.2), and if If-Range names our content (13.1.5)."""
    if request.method != "GET" or request.headers.get("If-Range", etag) != etag:
        return None
    return request.headers.get("Range")


async def send_segments(
    request: web.Request, response: web.StreamResponse, segments: Sequence[Segment], stall_seconds: float
) -> None:
    """Send the headers of `response`, then the segments, whose total length is its Content-Length.

    Raises ConnectionError if the client is gone or takes nothing for `stall_seconds`, and OSError or EOFError if a file
    cannot be read. The connection must then be aborted, since the headers are already sent.
    """
    await response.prepare(request)
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    if transport.get_extra_info("sslcontext") is not None:
        await _copy(response, segments, stall_seconds)
    else:
        await _drain(request, transport, stall_seconds)
        with _Outlet(transport, stall_seconds) as outlet:
            for segment in segments:
                if isinstance(segment, bytes):
                    await outlet.send(segment)
                elif isinstance(segment, StreamRange):
                    async for chunk in _chunks(segment):
                        await outlet.send(chunk)
                else:
                    await outlet.send_file(segment)
    await response.write_eof()


async def send_chunks(
    request: web.Request, response: web.StreamResponse, chunks: AsyncGenerator[bytes, None], stall_seconds: float
) -> None:
    """Send the headers of `response`, then the chunks as they come. Raises what they and `send_segments` raise."""
    await response.prepare(request)
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            async with _stall_limit(stall_seconds):
                await response.write(chunk)
    await response.write_eof()


async def _copy(response: web.StreamResponse, segments: Sequence[Segment], stall_seconds: float) -> None:
    """Copy segments through the event loop, for TLS, which the kernel cannot send by itself."""
    for segment in segments:
        async for chunk in _chunks(segment):
            async with _stall_limit(stall_seconds):
                await response.write(chunk)


async def _chunks(segment: Segment) -> AsyncIterator[bytes]:
    """Yield the bytes of a segment, read in threads."""
    chunks = read_segment(segment, COPY_CHUNK)
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def _drain(request: web.Request, transport: asyncio.Transport, stall_seconds: float) -> None:
    """Wait until everything written to the transport so far is in the socket's buffer."""
    low, high = transport.get_write_buffer_limits()
    # a limit of 0 pauses the writer while anything is buffered, so that drain() waits for the last byte
    transport.set_write_buffer_limits(high=0)
    try:
        async with _stall_limit(stall_seconds):
            await request.writer.drain()
    finally:
        transport.set_write_buffer_limits(high=high, low=low)


class _Outlet:
    """The socket below a transport whose own buffer is empty and stays so."""

    def __init__(self, transport: asyncio.Transport, stall_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall_seconds = stall_seconds
        self._transport = transport
        # a descriptor of its own: event loops refuse to watch one that belongs to a transport
        self._socket = os.dup(transport.get_extra_info("socket").fileno())
        self._turns = 0

    def __enter__(self) -> _Outlet:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._socket)

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._socket, view[:SENDFILE_MOST]) :]
            except BlockingIOError:
                await self._writable()
            else:
                await self._let_others()

    async def send_file(self, segment: FileRange) -> None:
        file = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset, stop = segment.offset, segment.offset + segment.length
            while offset < stop:
                offset += await self._send_some(file, offset, min(stop - offset, SENDFILE_MOST))
        finally:
            os.close(file)

    async def _send_some(self, file: int, offset: int, count: int) -> int:
        try:
            if _is_cached(file, offset) and _is_cached(file, offset + count - 1):
                sent = os.sendfile(self._socket, file, offset, count)
            else:
                sent = await self._send_from_disk(file, offset, count)
        except BlockingIOError:
            await self._writable()
            return 0
        if sent == 0:
            raise EOFError("a stored file is shorter than recorded")
        await self._let_others()
        return sent

    async def _send_from_disk(self, file: int, offset: int, count: int) -> int:
        """Send from a thread, where waiting for the disk blocks nobody. Descriptors stay open until it is done."""
        sending = self._loop.run_in_executor(None, os.sendfile, self._socket, file, offset, count)
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait([sending])
            raise

    async def _writable(self) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        room = self._loop.create_future()
        self._loop.add_writer(self._socket, _wake, room)
        try:
            async with _stall_limit(self._stall_seconds):
                await room
        finally:
            self._loop.remove_writer(self._socket)

    async def _let_others(self) -> None:
        self._turns += 1
        if self._turns % PAUSE_EVERY == 0:
            await asyncio.sleep(0)


def _wake(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)


def _is_cached(file: int, offset: int) -> bool:
    """Whether the byte at `offset` can be read without waiting for a disk (preadv2(2), RWF_NOWAIT)."""
    try:
        os.preadv(file, [bytearray(1)], offset, os.RWF_NOWAIT)
    except OSError:
        # EAGAIN: not in memory. EOPNOTSUPP: the file system cannot tell, so a thread is the safe way.
        return False
    return True


class _stall_limit:  # noqa: N801 - used like a function
    """Raises ConnectionResetError if a wait takes more than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *exception: object) -> None:
        try:
            await self._timeout.__aexit__(*exception)  # type: ignore[arg-type] # passed through as they came
        except TimeoutError:
            raise ConnectionResetError("the client took no bytes for too long") from None
