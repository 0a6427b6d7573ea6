"""The audit log: a table that is only appended to, and the same events in the structured log.

The event of a change to accounts, bindings or tokens is in the transaction of the change, so there is never one without
the other. Events of requests are written a moment later, many at a time, since a pull must not wait for a disk. If the
machine dies, at most half a second of those is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import orjson
import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.audit.event import AuditEvent
from auth.audit.floods import SIGN_IN, Floods
from auth.audit.reading import AuditFilter, AuditPage, read_page
from storage.database import account_tables
from storage.database.engine import Database
from storage.environments.vocabulary import EnvironmentBuild
from storage.errors import StorageError
from storage.text import redact

FLUSH_SECONDS = 0.5
RETRY_SECONDS = 2.0
MOST_WAITING = 10_000
MOST_LESSER_WAITING = 2_000
"""Of events that change nothing: however many there are, those that change something find a place."""
MOST_AT_ONCE = 500
LESSER = frozenset({SIGN_IN, "manifest.pull"})
REPEATED = frozenset({SIGN_IN})
"""A client gets a token for each pull."""

log = structlog.get_logger(__name__)


class AuditLog:
    """Takes events while `writing` runs."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._waiting: deque[AuditEvent] = deque()
        self._dropped = 0
        self._floods = Floods(clock)
        self._more = asyncio.Event()
        self._one = asyncio.Lock()

    def note(self, event: AuditEvent) -> None:
        """Write `event` soon. Never waits; if too many events are waiting, drops it and logs that.

        Of refusals, and of what repeats itself, it writes what `auth.audit.floods` says.
        """
        self._put_sums()
        if event.outcome == "denied" or event.action in REPEATED:
            was_due = self._floods.due_in()
            if not self._floods.admits(event):
                if was_due is None and self._floods.due_in() is not None:
                    # whoever waits has to know until when
                    self._more.set()
                return
        self._put(event)

    async def read_page(self, wanted: AuditFilter, before: int | None, limit: int) -> AuditPage:
        """As `auth.audit.reading.read_page`; what was noted a moment ago may be missing."""
        return await read_page(self._database, wanted, before=before, limit=limit)

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write noted events while the block runs, and the rest at its end."""
        task = asyncio.create_task(self._write_always())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._put_sums(early=True)
            with contextlib.suppress(StorageError):
                while self._waiting:
                    await self._write_some()

    async def _write_always(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._floods.due_in()):
                    await self._more.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            self._put_sums()
            self._more.clear()
            try:
                while self._waiting:
                    await self._write_some()
            except StorageError as error:
                log.warning("the audit log cannot be written", reason=str(error), waiting=len(self._waiting))
                await asyncio.sleep(RETRY_SECONDS)
                self._more.set()
            if self._dropped:
                log.error("events of the audit log were dropped", count=self._dropped)
                self._dropped = 0

    async def _write_some(self) -> None:
        async with self._one:
            await self._write_first()

    async def _write_first(self) -> None:
        """Write those that have waited longest."""
        some = [self._waiting[index] for index in range(min(MOST_AT_ONCE, len(self._waiting)))]
        try:
            await self._write(some)
        except StorageError:
            raise
        except Exception:
            # whatever is wrong with one event must not end the log of all others
            log.exception("events of the audit log are written one by one, since one of them fails", count=len(some))
            await self._write_each(len(some))
            return
        # only now: what could not be written must be written later
        for _ in some:
            self._waiting.popleft()

    async def _write_each(self, number: int) -> None:
        """Write the first `number` events that wait, each by itself, and leave out those that cannot be written."""
        for _ in range(number):
            event = self._waiting[0]
            try:
                await self._write([event])
            except StorageError:
                raise
            except Exception:
                # it would fail again each time, and all others would wait behind it
                log.exception("an event of the audit log is left out", action=event.action, request=event.request)
            self._waiting.popleft()

    async def _write(self, events: Sequence[AuditEvent]) -> None:
        async with self._database.writing() as connection:
            await insert_events(connection, events)

    def _put(self, event: AuditEvent) -> None:
        tell(event)
        is_lesser = event.outcome == "denied" or event.action in LESSER
        if len(self._waiting) >= (MOST_LESSER_WAITING if is_lesser else MOST_WAITING):
            self._dropped += 1
            return
        self._waiting.append(event)
        self._more.set()

    def _put_sums(self, *, early: bool = False) -> None:
        for event in self._floods.take(early=early):
            self._put(event)


def name_build(build: EnvironmentBuild) -> str:
    """The action of whoever has a new build made: the first one of an environment is the current one from the start."""
    return "environment.create" if build.is_current else "environment.update"


async def append(connection: AsyncConnection, event: AuditEvent) -> None:
    """Add the event of a change in the transaction of the change."""
    tell(event)
    await insert_events(connection, [event])


def tell(event: AuditEvent) -> None:
    """Write the event to the structured log."""
    log.info(
        "audit",
        **event.texts(),
        kind=event.principal_kind,
        outcome=event.outcome,
        token_id=event.token,
        **{f"detail_{name}": value for name, value in event.details().items()},
    )


async def insert_events(connection: AsyncConnection, events: Iterable[AuditEvent]) -> None:
    rows = [
        {
            **event.texts(),
            "time": event.time,
            "principal_kind": event.principal_kind,
            "token": event.token,
            "outcome": event.outcome,
            "detail": redact(orjson.dumps(event.details()).decode()),
        }
        for event in events
    ]
    if rows:
        await connection.execute(account_tables.audit.insert(), rows)


async def prune(database: Database, before: float, *, dry_run: bool = False) -> int:
    """Delete events older than `before` (UNIX seconds) unless it is a `dry_run`, and return how many there are."""
    table = account_tables.audit
    old = table.c.time < before
    if dry_run:
        async with database.reading() as connection:
            return int((await connection.execute(select(func.count()).where(old))).scalar_one())
    async with database.writing() as connection:
        return (await connection.execute(delete(table).where(old))).rowcount
