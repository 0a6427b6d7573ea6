"""Changes announced to processes on other machines, which share a PostgreSQL database but no files.

A change to a repository is announced in its own transaction, so the announcement exists if and only if the change does.
Every process listens. While one cannot listen, it trusts nothing that it remembers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.background import in_background
from storage.events.changes import Changes

CHANNEL = "condery_changes"
RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


async def announce(connection: AsyncConnection, repository: str) -> None:
    """Announce, once the transaction is committed, that `repository` has changed. SQLite has no other machines."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_notify(CHANNEL, repository)))


@contextlib.asynccontextmanager
async def listening(url: str, changes: Changes) -> AsyncIterator[None]:
    """Mark in `changes` what other machines announce while the block runs. On SQLite there is nothing to do."""
    if make_url(url).get_backend_name() != "postgresql":
        yield
        return
    heard = asyncio.Event()
    async with in_background(_listen(url, changes, heard)):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), RETRY_SECONDS)
        yield


async def _listen(url: str, changes: Changes, heard: asyncio.Event) -> None:
    # imported only with PostgreSQL: the driver takes a while
    import psycopg

    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        changes.blind = True
        try:
            async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                # announcements made before LISTEN are lost
                changes.mark_all()
                changes.blind = False
                heard.set()
                async for notification in connection.notifies():
                    changes.mark(notification.payload)
        except psycopg.Error as error:
            log.warning("cannot listen for other machines' changes", reason=str(error).strip())
        changes.blind = True
        await asyncio.sleep(RETRY_SECONDS)
