"""Changes announced to processes on other machines, which share a PostgreSQL database but no files.

A change to a repository is announced in its own transaction, so the announcement exists if and only if the change does.
Every process listens. While one cannot listen, it trusts nothing that it remembers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.background import in_background
from storage.events.changes import Changes
from storage.events.listening import RETRY_SECONDS, listen

CHANNEL = "condery_changes"
ALL = "*"
"""Announced in place of a repository, it stands for all of them."""


async def announce(connection: AsyncConnection, repository: str) -> None:
    """Announce, once the transaction is committed, that `repository` has changed. SQLite has no other machines."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_notify(CHANNEL, repository)))


@contextlib.asynccontextmanager
async def listening(url: str, changes: Changes) -> AsyncIterator[None]:
    """Mark in `changes` what other machines announce while the block runs. On SQLite there is nothing to do."""
    address = make_url(url)
    if address.get_backend_name() != "postgresql":
        yield
        return
    heard = asyncio.Event()

    def be_deaf(deaf: bool) -> None:
        if not deaf:
            # announcements made before LISTEN are lost
            changes.mark_all()
            heard.set()
        changes.blind = deaf

    def mark(repository: str) -> None:
        if repository == ALL:
            changes.mark_all()
        else:
            changes.mark(repository)

    async with in_background(listen(address, CHANNEL, mark, be_deaf)):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), RETRY_SECONDS)
        yield
