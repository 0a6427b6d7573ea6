"""Servers of other programs, for as long as a block runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol, TypeVar


class Startable(Protocol):
    @property
    def running(self) -> bool: ...

    def start(self) -> None:
        """Returns when the server answers."""

    def kill(self) -> None: ...


Server = TypeVar("Server", bound=Startable)


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, started; at the end of the block it is killed, if it still runs."""
    server.start()
    try:
        yield server
    finally:
        if server.running:
            server.kill()
