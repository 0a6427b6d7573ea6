"""Looks host names up where nothing else waits for it.

A look-up blocks for as long as the name servers of whoever chose the name want: half a minute if they do not answer.
asyncio has few threads for everything that blocks (`asyncio.to_thread`), and a handful of such names would occupy them
all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from aiohttp.abc import AbstractResolver, ResolveResult

T = TypeVar("T")

MOST = 500
"""Look-ups of one client at a time, each with a thread. Others wait."""


class LookUps(Generic[T]):
    """The look-ups of one client: each in a thread of its own, and equal ones once for all who want them now.

    If a caller is cancelled, its look-up goes on to its end.
    """

    def __init__(self, most: int = MOST) -> None:
        self._slots = asyncio.Semaphore(most)
        self._running: dict[Hashable, asyncio.Task[T]] = {}

    async def do(self, key: Hashable, look_up: Callable[[], T]) -> T:
        """Return or raise what `look_up` does. Everybody with this key gets the same."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._run(look_up))
            task.add_done_callback(lambda task: self._note_end(key, task))
        return await asyncio.shield(task)

    async def _run(self, look_up: Callable[[], T]) -> T:
        async with self._slots:
            return await _begin(look_up)

    def _note_end(self, key: Hashable, task: asyncio.Task[T]) -> None:
        del self._running[key]
        if not task.cancelled():
            # if all callers were cancelled, nobody is left to see the exception
            task.exception()


def _begin(look_up: Callable[[], T]) -> asyncio.Future[T]:
    """Run it in a thread that does not keep the process from ending. Raises OSError if no thread can be started."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only where T has it

    def run() -> None:
        result, failure = None, None
        try:
            result = look_up()
        except Exception as error:  # noqa: BLE001 - raised again where the look-up was requested
            failure = error
        # the loop may be closed by now
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    try:
        threading.Thread(target=run, name="look-up", daemon=True).start()
    except RuntimeError as error:
        raise OSError(str(error)) from None
    return future


class ThreadsResolver(AbstractResolver):
    """aiohttp's resolver, with threads of a `LookUps`."""

    def __init__(self) -> None:
        self._look_ups: LookUps[list[ResolveResult]] = LookUps()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError, and UnicodeError for an impossible name."""
        return await self._look_ups.do((host, port, family), lambda: _resolve(host, port, family))

    async def close(self) -> None:
        """Do nothing: look-ups that still run end by themselves."""


def _resolve(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            host=_write_address(address),
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in found
    ]


def _write_address(address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> str:
    """Return the host of a socket's address, with its zone if it has one (RFC 4007, 11)."""
    return f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else str(address[0])
