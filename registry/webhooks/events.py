"""Events as documents, in the format of the distribution registry's notifications.

Its package `notifications` and its page "Work with notifications" specify the format: an envelope of events, each with
an `action`, its `target`, the `request` and `actor` that caused it, and its `source`. In addition to its actions there
is `build`, for on-demand images and files, and `alarm`, for environments whose current build holds what is denied; such
an event has no request, and a `build` or `alarm` object instead.
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
from storage.environments.vocabulary import EnvironmentBuild
from storage.text import redact

MEDIA_TYPE = "application/vnd.docker.distribution.events.v2+json"
BLOB_TYPE = "application/octet-stream"

MOST_REFERENCES = 200
"""The most references of a manifest; an event of one with more leaves them out."""

LONGEST_TEXT = 256
"""Characters of text that a client chose, such as its user agent."""


@dataclass(frozen=True, slots=True)
class EventTarget:
    """The target of an action: a manifest, a blob, or just a tag. Unknown or omitted fields are None."""

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
    """The request that caused an event, and its time (UNIX seconds)."""

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
    """Makes ids for one process: UUIDs of version 7 (RFC 9562), each greater than the one before."""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> str:
        # 48 bits of milliseconds, then their fraction in 1/4096 in the 12 bits after the version (section 6.2, method
        # 3)
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
    """`base_url` is this server's, if it is known: there is no request that could tell it."""
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
    return {**_unasked("build", event_id, target.to_json(build.repository, base_url), source), "build": told}


def alarm_event(event_id: str, build: EnvironmentBuild, reason: str, source: Source) -> dict[str, Any]:
    """The rules of now refuse what an environment's current build holds."""
    told = {"environment": f"{build.namespace}/{build.name}", "build": build.id, "reason": redact(reason)}
    target = EventTarget(tag=str(build.id)).to_json(build.repository, None)
    return {**_unasked("alarm", event_id, target, source), "alarm": told}


def _unasked(action: Action, event_id: str, target: dict[str, Any], source: Source) -> dict[str, Any]:
    """An event that no request caused."""
    return {
        "id": event_id,
        "timestamp": timestamp(time.time()),
        "action": action,
        "target": target,
        # decoders expect these fields
        "request": {"id": "", "method": "", "useragent": ""},
        "actor": {},
        "source": source.to_json(),
    }


def envelope(documents: Iterable[str]) -> bytes:
    """The body of a post, from events that are already JSON text."""
    return f'{{"events":[{",".join(documents)}]}}'.encode()


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, microseconds."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def printable(text: str) -> str:
    """Shorten text that a client sent, and make it valid in JSON: headers may hold bytes that are not text."""
    return text[:LONGEST_TEXT].encode(errors="replace").decode()
