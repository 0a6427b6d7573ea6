"""Turns what happens into rows of the outbox.

Changes are recorded in their own transactions (`recorder`). Pulls change nothing and are frequent, so they are only
noted in memory and written once a second. If there are too many, some are dropped: no pull waits for its event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from builder.queue.ended import EndedBuild
from registry.webhooks.events import Cause, EventIds, EventTarget, Source, alarm_event, build_event, request_event
from registry.webhooks.webhook import Action, Webhook
from storage.background import in_background
from storage.environments.vocabulary import EnvironmentBuild
from storage.errors import StorageError
from storage.events.outbox import Event, Outbox, Record, insert_events

T = TypeVar("T")

FLUSH_SECONDS = 1.0
MOST_NOTED = 2000
"""The most pulls kept in memory, and so written per second."""

SLICE = 200
"""How many of them to write at a time: making their documents blocks the event loop."""

MOST_WAITING = 100_000
"""If more events wait for a webhook, pulls are no longer added."""

log = structlog.get_logger(__name__)


class _Pull(NamedTuple):
    repository: str
    target: EventTarget
    cause: Cause


class Notifier:
    """Tells `webhooks` through the outbox. `changed` is called when there may be new events to send."""

    def __init__(
        self,
        webhooks: Sequence[Webhook],
        outbox: Outbox,
        source: Source,
        *,
        public_url: str | None = None,
        blob_pulls: bool = False,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._webhooks = webhooks
        self._outbox = outbox
        self._source = source
        self._public_url = public_url
        self._ids = EventIds()
        self._pulls: list[_Pull] = []
        self.blob_pulls = blob_pulls
        self.changed = changed
        self.dropped = 0
        """Pulls without an event, because there were too many."""

    def wants(self, action: Action, repository: str) -> bool:
        return any(webhook.wants(action, repository) for webhook in self._webhooks)

    def recorder(
        self, action: Action, repository: str, cause: Cause, targets: Callable[[T], Sequence[EventTarget]]
    ) -> Record[T] | None:
        """What a change of `repository` adds to its transaction; None if no webhook wants the event.

        `targets` is called with the result of the changing method, and each target it returns becomes an event.
        """
        if not self.wants(action, repository):
            return None

        async def record(connection: AsyncConnection, result: T) -> None:
            found = targets(result)
            await insert_events(connection, self._events(action, repository, found, cause))

        return record

    def build_recorder(self, ended: EndedBuild) -> Record[None] | None:
        """The same for the end of a build."""
        if not self.wants("build", ended.repository):
            return None

        async def record(connection: AsyncConnection, _result: None) -> None:
            event_id = self._ids.new()
            document = build_event(event_id, ended, self._public_url, self._source)
            await insert_events(connection, self._address("build", ended.repository, event_id, document))

        return record

    def alarm_recorder(self, build: EnvironmentBuild, reason: str) -> Record[None] | None:
        """The same for a current build of an environment that the rules refuse."""
        if not self.wants("alarm", build.repository):
            return None

        async def record(connection: AsyncConnection, _result: None) -> None:
            event_id = self._ids.new()
            document = alarm_event(event_id, build, reason, self._source)
            await insert_events(connection, self._address("alarm", build.repository, event_id, document))

        return record

    def note_pull(self, repository: str, target: EventTarget, cause: Cause) -> None:
        """Note a pull; returns at once."""
        if len(self._pulls) < MOST_NOTED:
            self._pulls.append(_Pull(repository, target, cause))
        else:
            self.dropped += 1

    async def flush(self) -> None:
        """Write the noted pulls; if this raises StorageError they are lost."""
        if self.dropped:
            log.warning("pulls not told to webhooks", count=self.dropped, reason="more than can be recorded")
            self.dropped = 0
        if not self._pulls:
            return
        pulls, self._pulls = self._pulls, []
        roomy = [each for each in self._webhooks if await self._outbox.has_room(each.key, MOST_WAITING)]
        for start in range(0, len(pulls), SLICE):
            events = [event for pull in pulls[start : start + SLICE] for event in self._pull_events(pull)]
            fit = [event for event in events if event.endpoint in {webhook.key for webhook in roomy}]
            self.dropped += len(events) - len(fit)
            await self._outbox.put(fit)
        self.changed()

    @contextlib.asynccontextmanager
    async def flushing(self) -> AsyncIterator[None]:
        """Write noted pulls while the block runs, and the rest at its end."""
        try:
            async with in_background(self._keep_flushing()):
                yield
        finally:
            await self._flush_or_log()

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush_or_log()

    async def _flush_or_log(self) -> None:
        try:
            await self.flush()
        except StorageError as error:
            log.warning("pulls not told to webhooks", reason=str(error))

    def _pull_events(self, pull: _Pull) -> Iterator[Event]:
        return self._events("pull", pull.repository, [pull.target], pull.cause)

    def _events(self, action: Action, repository: str, targets: Sequence[EventTarget], cause: Cause) -> Iterator[Event]:
        for target in targets:
            event_id = self._ids.new()
            document = request_event(event_id, action, repository, target, cause, self._source)
            yield from self._address(action, repository, event_id, document)

    def _address(self, action: Action, repository: str, event_id: str, document: dict[str, Any]) -> Iterator[Event]:
        text = orjson.dumps(document).decode()
        for webhook in self._webhooks:
            if webhook.wants(action, repository):
                yield Event(webhook.key, event_id, text)
