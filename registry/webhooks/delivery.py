"""Delivery: one process at a time posts waiting events from the outbox to their webhooks.

Each webhook has its own line, so one that is down or slow does not hold up another. Events are sent in order, several
at a time. After a failure the line pauses, twice as long each time, and tries the first event again until it is
accepted or too old. Only an event that a webhook keeps refusing is put aside, for the sake of those behind it. An event
that was accepted but could not be deleted in time is sent again: each event arrives at least once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import aiohttp
import structlog

from builder.network.addresses import AddressGuard, split_endpoint
from builder.network.connector import make_connector
from registry.webhooks.events import MEDIA_TYPE, envelope
from registry.webhooks.signing import sign
from registry.webhooks.webhook import Webhook
from storage.background import in_background
from storage.database.leases import Leases
from storage.errors import StorageError
from storage.events.outbox import Outbox, Waiting

LEASE = "webhooks"
POLL_SECONDS = 1.0
"""How soon an event recorded by another process is found."""

BATCH = 100
BATCH_BYTES = 512 << 10
MOST_CONNECTIONS = 100
PATIENCE = 5
"""How often in a row an event may be refused before those behind it are tried."""

_MAY_PASS = frozenset({408, 425, 429})
"""Client errors with which a server says that it would accept the same request later."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Timing:
    """Times in seconds: of one post, of pauses after repeated failures, until an event is dropped, and of the lease.

    Pauses double from `first_pause` to `longest_pause`, and each is shortened at random by up to half.
    """

    post: float = 10.0
    first_pause: float = 1.0
    longest_pause: float = 2 * 3600.0
    give_up: float = 3 * 86_400.0
    lease: float = 15.0

    def bound(self, failures: int) -> float:
        return min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 40))

    def pause(self, failures: int) -> float:
        return self.bound(failures) * random.uniform(0.5, 1)  # noqa: S311 - only spreads load


@dataclass(frozen=True)
class Failure:
    """Why a webhook did not accept a post; `refused` if it answered that it never will."""

    reason: str
    refused: bool = False


class Line:
    """The events waiting for one webhook."""

    def __init__(self, webhook: Webhook, outbox: Outbox, timing: Timing, secret: bytes | None) -> None:
        self._webhook = webhook
        self._outbox = outbox
        self._timing = timing
        self._secret = secret
        self._failures = 0
        """Failed posts in a row."""
        self._refusals = 0
        """Refusals of the first event in a row."""
        self.news = asyncio.Event()
        """Set when there may be new events."""

    async def serve(self, session: aiohttp.ClientSession) -> None:
        """Deliver without end."""
        while True:
            try:
                await self._turn(session)
            except StorageError as error:
                self._failures += 1
                log.warning("webhook waits for the database", webhook=self._webhook.address, reason=str(error))
            except Exception:
                self._failures += 1
                log.exception("webhook delivery crashed", webhook=self._webhook.address)
            if self._failures:
                await asyncio.sleep(self._timing.pause(self._failures))

    async def _turn(self, session: aiohttp.ClientSession) -> None:
        """Post the next events, or wait for some."""
        # after a failure only one event at a time, so that a refused event takes no others with it
        events = take_fitting(await self._outbox.next(self._webhook.key, 1 if self._failures else BATCH))
        if not events:
            self._failures = 0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), POLL_SECONDS)
            self.news.clear()
            return
        failure = await self._post(session, envelope(event.document for event in events))
        if failure is None:
            await self._outbox.forget(self._webhook.key, [event.id for event in events])
            self._failures = self._refusals = 0
            log.debug("webhook told", webhook=self._webhook.address, events=len(events))
        else:
            await self._note_failure(events[0], failure)

    async def _note_failure(self, event: Waiting, failure: Failure) -> None:
        log.warning("webhook failed", webhook=self._webhook.address, reason=failure.reason, attempts=event.attempts + 1)
        self._failures += 1
        self._refusals = self._refusals + 1 if failure.refused else 0
        now = due = time.time()
        if failure.refused and max(self._refusals, event.attempts) >= PATIENCE:
            # longer than this line's pause, so that another event gets its turn after that
            due += 2 * self._timing.bound(max(self._failures, event.attempts + 1))
            self._refusals = 0
        await self._outbox.count_failure(self._webhook.key, event.id, due)
        if count := await self._outbox.give_up(now - self._timing.give_up, self._webhook.key):
            log.error("events given up", webhook=self._webhook.address, count=count)

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> Failure | None:
        headers = {"Content-Type": MEDIA_TYPE}
        if self._secret is not None:
            headers |= sign(self._secret, int(time.time()), body)
        try:
            async with asyncio.timeout(self._timing.post):
                # the answer is only a status: a receiver does not decide where the events go next
                async with session.post(self._webhook.url, data=body, headers=headers, allow_redirects=False) as answer:
                    status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Failure(self._reason(error))
        if 200 <= status < 300:
            return None
        return Failure(f"it answered {status}", refused=300 <= status < 500 and status not in _MAY_PASS)

    def _reason(self, error: Exception) -> str:
        """The error without its URL, which may hold a secret and is in some of aiohttp's texts."""
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timing.post:g} seconds"
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            inner = error.certificate_error
            return getattr(inner, "verify_message", "") or type(inner).__name__
        if isinstance(error, (OSError, ssl.SSLError)) and error.strerror:
            return f"{type(error).__name__}: {error.strerror}"
        return type(error).__name__


class Deliverer:
    """The lines of `webhooks`, served while this process, called `owner`, has the lease."""

    def __init__(
        self,
        webhooks: Sequence[Webhook],
        outbox: Outbox,
        leases: Leases,
        owner: str,
        *,
        timing: Timing,
        secret: bytes | None = None,
    ) -> None:
        self._outbox = outbox
        self._leases = leases
        self._owner = owner
        self._timing = timing
        # only the hosts in the settings, wherever they are; redirects are not followed
        self._guard = AddressGuard([split_endpoint(webhook.url) for webhook in webhooks])
        self._lines = {webhook.key: Line(webhook, outbox, timing, secret) for webhook in webhooks}

    def wake(self) -> None:
        """Look for new events soon."""
        for line in self._lines.values():
            line.news.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the block runs. A post that its end cuts off is repeated by the next process to deliver."""
        async with in_background(self._run()):
            yield

    async def _run(self) -> None:
        while True:
            try:
                await self._deliver()
            except StorageError as error:
                log.warning("webhooks wait for the database", reason=str(error))
            except Exception:
                log.exception("webhook delivery crashed")
            await asyncio.sleep(self._timing.lease / 3)

    async def _deliver(self) -> None:
        """Serve the lines as long as the lease is ours."""
        if not await self._has_lease():
            return
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._leases.give_up, LEASE, self._owner)
            # no proxies or credentials from the environment, and no cookies
            session = aiohttp.ClientSession(
                connector=make_connector(self._guard, limit=MOST_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "condery"},
            )
            await stack.enter_async_context(session)
            for line in self._lines.values():
                stack.push_async_callback(_note_end, asyncio.create_task(line.serve(session)))
            await self._outbox.give_up_others(time.time() - self._timing.give_up, list(self._lines))
            while True:
                await asyncio.sleep(self._timing.lease / 3)
                if not await self._has_lease():
                    return

    async def _has_lease(self) -> bool:
        return await self._leases.take(LEASE, self._owner, self._timing.lease)


async def _note_end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def take_fitting(events: Sequence[Waiting]) -> Sequence[Waiting]:
    """The first events, as many as may be posted at once, and at least one."""
    size = 0
    for count, event in enumerate(events):
        size += len(event.document)
        if count and size > BATCH_BYTES:
            return events[:count]
    return events
