"""A relay before a database server, which can fall silent or die."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

SO_ATTACH_FILTER = 26
RETURN = 6
"""The instruction of a packet filter; it returns how many bytes to keep."""


class Relay:
    """Passes bytes on between a TCP port and a server's socket, unless it is silent or until it flows again.

    Either way it closes nothing. What comes while it is `silent` is lost. Once it is dead, not even its kernel answers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.port = 0
        self.connections = 0
        self.silent = False
        self.flows = asyncio.Event()
        self.flows.set()
        self._sockets: list[socket.socket] = []
        self._passing: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in self._passing:
                task.cancel()
            await asyncio.gather(*self._passing, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._sockets.append(writer.get_extra_info("socket"))
        there, back = await asyncio.open_unix_connection(self._path)
        for each in (self._pass(reader, back), self._pass(there, writer)):
            self._passing.add(asyncio.create_task(each))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                await self.flows.wait()
                if not self.silent:
                    writer.write(data)
        finally:
            writer.close()

    def die(self) -> None:
        """Whatever comes from now on is dropped before TCP sees it."""
        nothing = ctypes.create_string_buffer(struct.pack("HBBI", RETURN, 0, 0, 0))
        for each in self._sockets:
            each.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(nothing)))
