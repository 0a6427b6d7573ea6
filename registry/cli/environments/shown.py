"""Environments and builds as commands show them, wherever they are. Times are UNIX seconds, sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.clock import iso

UNFINISHED = frozenset({"QUEUED", "BUILDING"})
COMPLETED = "COMPLETED"


@dataclass(frozen=True, slots=True)
class ShownEnvironment:
    namespace: str
    name: str
    repository: str
    """Where its images are: `namespace/name` in the grammar of image names."""
    description: str
    current_build: int
    last_build: int
    created: float
    created_by: str
    solved: float | None = None
    """When it was last solved by its schedule."""
    solve_error: str | None = None

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"

    def to_json(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "name": self.name,
            "repository": self.repository,
            "description": self.description,
            "current_build": self.current_build,
            "last_build": self.last_build,
            "created": iso(self.created),
            "created_by": self.created_by,
            "solved": None if self.solved is None else iso(self.solved),
            "solve_error": self.solve_error,
        }


@dataclass(frozen=True, slots=True)
class ShownAlarm:
    """A current build that holds what is denied."""

    environment: str
    """`namespace/name`"""
    build: int
    reason: str
    since: float

    def to_json(self) -> dict[str, Any]:
        return {
            "environment": self.environment,
            "build": self.build,
            "reason": self.reason,
            "since": iso(self.since),
        }


@dataclass(frozen=True, slots=True)
class ShownBuild:
    id: int
    environment: str
    """`namespace/name`; empty if that is not known."""
    status: str
    info: str
    """Why it failed, or what is remarkable, in a sentence; else empty."""
    size: int
    scheduled: float
    started: float | None
    ended: float | None
    cause: str
    created_by: str
    lock: str | None
    """The key of its lock, if it is complete."""

    @property
    def is_finished(self) -> bool:
        return self.status not in UNFINISHED

    @property
    def is_complete(self) -> bool:
        return self.status == COMPLETED

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "environment": self.environment,
            "status": self.status,
            "info": self.info or None,
            "size": self.size,
            "scheduled": iso(self.scheduled),
            "started": _time(self.started),
            "ended": _time(self.ended),
            "cause": self.cause,
            "created_by": self.created_by,
            "lock": self.lock,
        }


@dataclass(frozen=True, slots=True, order=True)
class ShownPackage:
    name: str
    version: str
    channel: str = ""


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """What happens to a build (`builder.environments.journal`). Nothing in `data` is checked."""

    kind: str
    text: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EnvironmentQuery:
    """Which environments are listed; what is None or empty does not matter."""

    namespace: str | None = None
    search: str | None = None
    status: str | None = None
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildQuery:
    """Which builds are listed, the last ones first."""

    namespace: str | None = None
    name: str | None = None
    status: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Written:
    """An environment that somebody has written down, checked here as far as it can be."""

    text: str
    name: str
    namespace: str
    description: str | None = None
    is_lock: bool = False


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else iso(seconds)
