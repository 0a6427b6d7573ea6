"""Listens to other processes through PostgreSQL (LISTEN and NOTIFY), and reconnects if a connection is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

import structlog
from sqlalchemy import URL

RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


async def listen(url: URL, channel: str, hear: Callable[[str], None], be_deaf: Callable[[bool], None]) -> NoReturn:
    """Call `hear` with each payload on `channel` until the task is cancelled.

    `be_deaf(True)` is called if the connection is lost and at each failed attempt to connect; `be_deaf(False)` is
    called when listening starts. Notifications before that are lost.
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
                async for notification in connection.notifies():
                    hear(notification.payload)
        except psycopg.Error as error:
            log.warning("cannot listen for other machines' changes", reason=str(error).strip())
        be_deaf(True)
        await asyncio.sleep(RETRY_SECONDS)
