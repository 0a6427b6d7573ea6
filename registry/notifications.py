"""What requests and builds report to webhooks. Without webhooks only pulls are noted, for an audit log that has them.

handlers, builds -> Notifier -> outbox (in the transaction of the change) -> Deliverer -> webhooks
"""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from aiohttp import web

from registry.http.manifests import Prepared
from registry.http.references import is_digest, parse_path
from registry.http.settings import HttpSettings
from registry.logs.request_log import REQUEST_ID
from registry.observer import PRINCIPAL
from registry.parts import PARTS, PROXIES, Parts
from registry.trail import PULL, note
from registry.webhooks.delivery import Deliverer, Timing
from registry.webhooks.events import Cause, EventTarget, Source
from registry.webhooks.notifier import Notifier
from registry.webhooks.settings import WebhookSettings
from registry.webhooks.signing import read_secret
from registry.webhooks.webhook import Action, parse_webhooks
from storage.blobs.rows import StoredBlob
from storage.database.engine import Database
from storage.database.leases import Leases
from storage.events.outbox import Outbox, Record

T = TypeVar("T")

_WHOLE = (200, 307)
"""The statuses of answers that deliver a whole blob; a client that reads parts sends many requests."""


@contextlib.asynccontextmanager
async def open_notifications(
    settings: WebhookSettings, http: HttpSettings, database: Database, timing: Timing | None = None
) -> AsyncIterator[Notifier | None]:
    """Yield the notifier while its events are delivered; None without webhooks. Raises SecretInvalid."""
    webhooks = parse_webhooks(settings.webhooks)
    if not webhooks:
        yield None
        return
    secret = read_secret(settings.webhook_secret_file) if settings.webhook_secret_file else None
    timing = timing or Timing(post=settings.webhook_seconds, give_up=settings.webhook_days * 86_400)
    source = Source(f"{socket.gethostname()}:{http.port}", str(uuid.uuid4()))
    outbox = Outbox(database)
    deliverer = Deliverer(webhooks, outbox, Leases(database), source.instance, timing=timing, secret=secret)
    notifier = Notifier(
        webhooks,
        outbox,
        source,
        public_url=http.public_url,
        blob_pulls=settings.webhook_blob_pulls,
        changed=deliverer.wake,
    )
    async with deliverer.running(), notifier.flushing():
        yield notifier


def recorder(
    request: web.Request, action: Action, repository: str, targets: Callable[[T], Sequence[EventTarget]]
) -> Record[T] | None:
    """What the request's change of `repository` adds to its transaction; see `Notifier.recorder`."""
    notifier = request.app[PARTS].notifier
    if notifier is None or not notifier.wants(action, repository):
        return None
    return notifier.recorder(action, repository, _cause(request), targets)


def note_manifest_pull(request: web.Request, parts: Parts, manifest: Prepared) -> None:
    """Note that `manifest` answers the request."""
    if request.method != "GET" or (parts.notifier is None and not parts.audit_pulls):
        return
    asked = parse_path(request.rel_url.raw_path)
    if parts.audit_pulls:
        note(request, request[PRINCIPAL], PULL, asked.repository, reference=asked.reference, digest=manifest.digest)
    if parts.notifier is not None and parts.notifier.wants("pull", asked.repository):
        tag = None if is_digest(asked.reference) else asked.reference
        target = EventTarget(manifest.digest, manifest.media_type, len(manifest.body), tag)
        parts.notifier.note_pull(asked.repository, target, _cause(request))


def note_blob_pull(request: web.Request, repository: str, blob: StoredBlob, status: int) -> None:
    """Note that `blob` was requested, and answered with `status`."""
    notifier = request.app[PARTS].notifier
    if notifier is None or not notifier.blob_pulls or request.method != "GET" or status not in _WHOLE:
        return
    if notifier.wants("pull", repository):
        notifier.note_pull(repository, EventTarget.blob(blob.digest, blob.size), _cause(request))


def _cause(request: web.Request) -> Cause:
    proxies = request.app[PROXIES]
    seen = proxies.seen(request)
    return Cause(
        time=time.time(),
        actor=request[PRINCIPAL].name,
        request_id=request[REQUEST_ID],
        address=seen.client,
        host=seen.host,
        method=request.method,
        user_agent=request.headers.get("User-Agent", ""),
        base_url=proxies.base_url(request),
    )
