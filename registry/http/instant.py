"""Answers whose bytes are known in advance, sent in one write.

The most frequent answer, a manifest from memory, takes longer to serialize than to find: for every request a response
object's headers are copied, completed, checked and written out. Here only the date and the request's id are new.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from email.utils import formatdate

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from registry.logs.request_log import REQUEST_ID

SERVER = "condery"
"""The value of the header Server."""


class Instant(web.StreamResponse):
    """A 200 made of a head from `head_of` and a body, for any number of requests that it `suits`."""

    def __init__(self, head: bytes, body: bytes) -> None:
        super().__init__()
        self._head = head
        self._content = body

    @property
    def keep_alive(self) -> bool:
        return True

    @property
    def body_length(self) -> int:
        return len(self._content)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        last = f"{_date_and_id(int(time.time()))}{request[REQUEST_ID]}\r\n\r\n".encode()
        transport.write(self._head + last if request.method == "HEAD" else b"".join((self._head, last, self._content)))
        if transport.get_write_buffer_size():
            # waits for a slow reader as usual
            await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def suits(request: web.Request) -> bool:
    """Whether nothing is to be negotiated: the protocol version and the connection stay as they are.

    A web page's request gets another answer (`registry.peers.cors`).
    """
    return (
        request.version == HttpVersion11
        and request.keep_alive
        and request.transport is not None
        and "Origin" not in request.headers
    )


def head_of(headers: Iterable[tuple[str, str]]) -> bytes:
    """The status line and headers, without the last two and the empty line; the caller has checked the values."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 200 OK\r\nServer: {SERVER}\r\n{lines}".encode()


@functools.lru_cache(maxsize=2)
def _date_and_id(second: int) -> str:
    """The Date header of that second, and the name of the next header."""
    return f"Date: {formatdate(second, usegmt=True)}\r\nX-Request-ID: "
