"""Changes told to the processes of other machines, which share a PostgreSQL database but no file.

Who changes a repository says so in the same transaction, so it is said if and only if the change is there. Every
process listens; one that cannot hear believes nothing it remembers until it can again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.events.changes import Changes

CHANNEL = "condery_changes"
RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


async def announce(connection: AsyncConnection, repository: str) -> None:
    """Tell other machines, when the transaction is committed, that `repository` has changed. SQLite has none."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_notify(CHANNEL, repository)))


@contextlib.asynccontextmanager
async def listening(url: str, changes: Changes) -> AsyncIterator[None]:
    """Marks in `changes` what other machines announce, while the block runs. Nothing to do on SQLite."""
    if make_url(url).get_backend_name() != "postgresql":
        yield
        return
    heard = asyncio.Event()
    task = asyncio.create_task(_listen(url, changes, heard))
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), RETRY_SECONDS)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _listen(url: str, changes: Changes, heard: asyncio.Event) -> None:
    # only where there is a PostgreSQL: its driver takes a while to import
    import psycopg

    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        changes.blind = True
        try:
            async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                # what was said while nobody listened is not said again
                changes.mark_all()
                changes.blind = False
                heard.set()
                async for notification in connection.notifies():
                    changes.mark(notification.payload)
        except psycopg.Error as error:
            log.warning("other machines' changes cannot be heard", reason=str(error).strip())
        changes.blind = True
        await asyncio.sleep(RETRY_SECONDS)
