"""Listens to other processes through PostgreSQL (LISTEN and NOTIFY), and reconnects if a connection is lost.

A server or a network that is gone need not say so: a listener would wait for ever for what nobody sends. So the server
is asked for a sign of life when it has been silent for a while. TCP's keepalives say less: the nearest proxy answers
them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import structlog
from sqlalchemy import URL

if TYPE_CHECKING:
    from psycopg import AsyncConnection

RETRY_SECONDS = 1.0
SILENT_SECONDS = 1.0
"""After so long without a notification the server is asked whether it is there."""
DOUBT_SECONDS = 1.0
"""After so long without an answer a notification may have been missed."""
ANSWER_SECONDS = 10.0
"""After so long without one the connection is given up."""

log = structlog.get_logger(__name__)


async def listen(url: URL, channel: str, hear: Callable[[str], None], be_deaf: Callable[[bool], None]) -> NoReturn:
    """Call `hear` with each payload on `channel` until the task is cancelled.

    `be_deaf(True)` is called if the connection is lost, at each failed attempt to connect, and if the server does not
    answer within DOUBT_SECONDS; `be_deaf(False)` is called when listening starts, and when that answer comes.
    Notifications before listening starts are lost.
    """
    # imported only with PostgreSQL: the driver takes a while
    import psycopg

    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        be_deaf(True)
        try:
            async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
                await connection.execute(f"LISTEN {channel}")
                be_deaf(False)
                while True:
                    async for notification in connection.notifies(timeout=SILENT_SECONDS):
                        hear(notification.payload)
                    await _ask_for_life(connection, be_deaf)
        except psycopg.Error as error:
            log.warning("cannot listen for other machines' changes", reason=str(error).strip())
        be_deaf(True)
        await asyncio.sleep(RETRY_SECONDS)


async def _ask_for_life(connection: AsyncConnection, be_deaf: Callable[[bool], None]) -> None:
    """Raises psycopg.OperationalError if the server does not answer in time."""
    loop, doubted = asyncio.get_running_loop(), False

    def doubt() -> None:
        nonlocal doubted
        doubted = True
        be_deaf(True)

    doubting = loop.call_later(DOUBT_SECONDS, doubt)
    giving_up = loop.call_later(ANSWER_SECONDS, _hang_up, connection.fileno())
    try:
        # what is notified meanwhile is kept for the next `notifies`
        await connection.execute("SELECT 1")
    finally:
        doubting.cancel()
        giving_up.cancel()
    if doubted:
        be_deaf(False)


def _hang_up(number: int) -> None:
    """End the connection under its user, who reads its end. A cancelled query would wait for the server's word."""
    with socket.socket(fileno=os.dup(number)) as connection, contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
