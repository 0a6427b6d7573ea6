"""HTTP as bytes on a socket: requests that no client library would send, and their answers in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

PATIENCE = 30
CLOSE = b"Connection: close\r\n"


@dataclass(frozen=True)
class Answer:
    version: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def code(self) -> str:
        return str(orjson.loads(self.body)["errors"][0]["code"])


class Closed(Exception):
    """The server closed the connection before the whole head of an answer; holds what arrived."""


@dataclass(frozen=True)
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send bytes; raises ConnectionError if the server no longer takes them."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer, to a request of `method`; raises Closed."""
        async with asyncio.timeout(PATIENCE):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                raise Closed(error.partial) from None
            except ConnectionError:
                raise Closed(b"") from None
            first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
            version, status, *_ = first.split(" ")
            headers = CIMultiDict[str]()
            for line in lines:
                name, _, value = line.partition(":")
                headers.add(name, value.strip())
            body = b""
            if method != "HEAD" and int(status) >= 200 and int(status) not in (204, 304):
                body = await self._body(headers)
            return Answer(version, int(status), CIMultiDictProxy(headers), body)

    async def _body(self, headers: CIMultiDict[str]) -> bytes:
        if "Content-Length" in headers:
            return await self.reader.readexactly(int(headers["Content-Length"]))
        if headers.get("Transfer-Encoding") != "chunked":
            return await self.reader.read()
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    async def ended(self) -> None:
        """Wait until the server closes the connection; there must be no further answer."""
        with pytest.raises(Closed) as closed:
            await self.answer()
        assert closed.value.args == (b"",)


@contextlib.asynccontextmanager
async def wire(address: tuple[str, int]) -> AsyncIterator[Wire]:
    """A connection that is dropped at the end of the block."""
    reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def exchange(address: tuple[str, int], data: bytes, method: str = "GET") -> Answer:
    """The first answer to `data`, on its own connection; raises Closed."""
    async with wire(address) as connection:
        with contextlib.suppress(ConnectionError):  # the server may answer before the end
            await connection.send(data)
        return await connection.answer(method)
