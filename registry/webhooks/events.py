"""Events as documents, in the form of the distribution registry's notifications.

Its package `notifications` and its page "Work with notifications" are the specification: an envelope of events, each
with what was done (`action`) to what (`target`), by which `request` of which `actor`, and where (`source`). Beside its
actions there is `build`, for what is made on demand; such an event has no request, and a `build` object instead.
"""

from __future__ import annotations

import datetime
import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from builder.queue.ended import EndedBuild
from registry.webhooks.webhook import Action
from storage.digest import Descriptor, Digest
from storage.text import redact

MEDIA_TYPE = "application/vnd.docker.distribution.events.v2+json"
BLOB_TYPE = "application/octet-stream"

MOST_REFERENCES = 200
"""Of a manifest; one that names more is told without them."""

LONGEST_TEXT = 256
"""Characters of what a client says of itself."""


@dataclass(frozen=True, slots=True)
class EventTarget:
    """What something was done to: a manifest, a blob, or a tag alone. What is not known, or not told, is None."""

    digest: Digest | None = None
    media_type: str | None = None
    size: int | None = None
    tag: str | None = None
    source: str | None = None
    """The repository that a blob was mounted from."""
    references: Sequence[Descriptor] = ()

    @classmethod
    def blob(cls, digest: Digest, size: int | None, source: str | None = None) -> EventTarget:
        return cls(digest, BLOB_TYPE, size, source=source)

    def to_json(self, repository: str, base_url: str | None) -> dict[str, Any]:
        document: dict[str, Any] = {"repository": repository}
        if self.media_type is not None:
            document["mediaType"] = self.media_type
        if self.digest is not None:
            document["digest"] = self.digest
        if self.size is not None:
            document["size"] = document["length"] = self.size
        if self.source is not None:
            document["fromRepository"] = self.source
        if base_url is not None and self.digest is not None and self.media_type is not None:
            kind = "blobs" if self.media_type == BLOB_TYPE else "manifests"
            document["url"] = f"{base_url}/v2/{repository}/{kind}/{self.digest}"
        if self.tag is not None:
            document["tag"] = self.tag
        if 0 < len(self.references) <= MOST_REFERENCES:
            document["references"] = [
                {"mediaType": each.media_type, "digest": each.digest, "size": each.size} for each in self.references
            ]
        return document


@dataclass(frozen=True, slots=True)
class Cause:
    """The request that something was done by, and when (UNIX seconds)."""

    time: float
    actor: str
    request_id: str
    address: str
    host: str
    method: str
    user_agent: str
    base_url: str | None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.request_id,
            "addr": self.address,
            "host": printable(self.host),
            "method": self.method,
            "useragent": printable(self.user_agent),
        }


class EventIds:
    """Ids of one process: UUIDs of version 7 (RFC 9562), each greater than the one before."""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> str:
        # 48 bits of milliseconds, and their fractions of 1/4096 in the 12 bits after the version (method 3 of 6.2)
        self._last = max(self._last + 1, (time.time_ns() << 12) // 1_000_000)
        milliseconds, fraction = divmod(self._last, 1 << 12)
        number = milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | secrets.randbits(62)
        return str(uuid.UUID(int=number))


@dataclass(frozen=True)
class Source:
    """This process: `host:port`, and an id that no other run has."""

    address: str
    instance: str

    def to_json(self) -> dict[str, str]:
        return {"addr": self.address, "instanceID": self.instance}


def request_event(
    event_id: str, action: Action, repository: str, target: EventTarget, cause: Cause, source: Source
) -> dict[str, Any]:
    return {
        "id": event_id,
        "timestamp": timestamp(cause.time),
        "action": action,
        "target": target.to_json(repository, cause.base_url),
        "request": cause.to_json(),
        "actor": {"name": cause.actor},
        "source": source.to_json(),
    }


def build_event(event_id: str, build: EndedBuild, base_url: str | None, source: Source) -> dict[str, Any]:
    """`base_url` is that of this server, where it is known: there is no request that says it."""
    manifest = build.manifest
    if manifest is None:
        target = EventTarget(tag=build.tag)
    else:
        target = EventTarget(manifest.digest, manifest.media_type, manifest.size, build.tag)
    told: dict[str, Any] = {
        "id": build.id,
        "status": "failed" if build.failure else "completed",
        "kind": build.kind,
        "seconds": round(build.seconds, 3),
    }
    if build.failure:
        told |= {"error": build.failure.kind, "message": redact(build.failure.message)}
    return {
        "id": event_id,
        "timestamp": timestamp(time.time()),
        "action": "build",
        "target": target.to_json(build.repository, base_url),
        # whoever decodes them expects these to be there
        "request": {"id": "", "method": "", "useragent": ""},
        "actor": {},
        "source": source.to_json(),
        "build": told,
    }


def envelope(documents: Iterable[str]) -> bytes:
    """What is posted, of events that are JSON text already."""
    return f'{{"events":[{",".join(documents)}]}}'.encode()


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, microseconds."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def printable(text: str) -> str:
    """What a client sent, not too long, and as JSON can have it: headers may hold bytes that are no text."""
    return text[:LONGEST_TEXT].encode(errors="replace").decode()
