"""A server on loopback for one program, which gets its secret with the address."""

from __future__ import annotations

import asyncio
import base64
import secrets
from abc import ABC, abstractmethod
from typing import Self


class LoopbackServer(ABC):
    """Serves at `url` while it is entered, to whoever has that URL."""

    def __init__(self, user: str, largest_head: int, most: int) -> None:
        """`largest_head` is in bytes; of connections at most `most` are open at a time."""
        self._user = user
        self._secret = secrets.token_urlsafe(32)
        self._authorization = b"Basic " + base64.b64encode(f"{user}:{self._secret}".encode())
        """What every request has to show."""
        self._largest_head = largest_head
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=self._largest_head)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://{self._user}:{self._secret}@127.0.0.1:{self._port}"

    def is_authorized(self, shown: bytes) -> bool:
        """Whether a request shows the secret in its field `Proxy-Authorization`."""
        return secrets.compare_digest(shown, self._authorization)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= self._most:
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # also where it is cancelled before it has begun
        task.add_done_callback(lambda _: writer.close())

    @abstractmethod
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, which is closed afterwards."""
