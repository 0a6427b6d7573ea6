"""What is stored of named environments: rows as their readers see them, and what lists are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Generic, TypeVar

from storage.digest import Descriptor

T = TypeVar("T")

Document = Mapping[str, Any]


class BuildStatus(StrEnum):
    QUEUED = "QUEUED"
    BUILDING = "BUILDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


def make_job_key(build_id: int) -> str:
    """The key of the queue's builds that do the work of an environment's build: no two share one."""
    return hashlib.sha256(f"environment build {build_id}".encode()).hexdigest()


LARGEST_ID = 2**31 - 1
"""Of a build: more is no integer in a database."""

UNFINISHED = (BuildStatus.QUEUED, BuildStatus.BUILDING)

DESCRIPTION = "description"
"""In what is stored of a request: how the environment is described `before` a build, and `after` it is complete."""


class Cause(StrEnum):
    """Why there is a build."""

    REQUEST = "REQUEST"
    REBUILD = "REBUILD"
    WATCH = "WATCH"
    """Its file has changed."""
    SCHEDULE = "SCHEDULE"
    IMPORT = "IMPORT"


@dataclass(frozen=True, slots=True)
class Specification:
    id: int
    name: str
    sha256: str
    document: Document
    """What clients see: {name, prefix, channels, dependencies, variables}, or {lockfile}."""
    request: Document
    """What is built of it, which the builder understands."""
    created: float


@dataclass(frozen=True)
class NewSpecification:
    """What a specification is made of; equal ones are one row."""

    name: str
    document: Document
    request: Document

    @cached_property
    def texts(self) -> tuple[str, str]:
        """Document and request as JSON. That of a large lock takes a while, and is better written in a thread."""
        document, request = (
            json.dumps(each, sort_keys=True, ensure_ascii=False) for each in (self.document, self.request)
        )
        return document, request


@dataclass(frozen=True, slots=True)
class Environment:
    id: int
    namespace: str
    namespace_id: int
    name: str
    repository: str
    """`namespace/name` as image names are written: where its images are, and the entity of rights on it."""
    description: str
    current_build: int | None
    """What `latest` means; the first build from the start."""
    last_build: int | None
    """The last one that was requested, whatever became of it."""
    created: float
    created_by: str
    resolved: float | None = None
    """When it was last solved by its schedule (UNIX seconds)."""
    resolve_error: str | None = None
    """Why that failed; None if it did not, or a build was asked for since."""


@dataclass(frozen=True, slots=True)
class EnvironmentBuild:
    """One build of an environment, which never changes once it has ended. Times are UNIX seconds, `size` is bytes."""

    id: int
    environment: int
    namespace: str
    name: str
    repository: str
    specification: int
    status: BuildStatus
    status_info: str | None
    job_key: str | None
    """The key of the queue's builds that do the work."""
    cause: Cause
    lock_key: str | None
    image_key: str | None
    same_as: int | None
    """An earlier build that has the same lock."""
    size: int
    scheduled: float
    started: float | None
    ended: float | None
    created_by: str
    pulled: float | None
    is_current: bool

    @property
    def is_finished(self) -> bool:
        return self.status not in UNFINISHED


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A page of what was asked for, and how many there are in all."""

    items: list[T]
    count: int


@dataclass(frozen=True, slots=True)
class Paging:
    """`limit` rows after `offset`; all if `limit` is None."""

    offset: int = 0
    limit: int | None = None
    sort: str = "id"
    descending: bool = False


ENVIRONMENT_SORTS = ("id", "name", "namespace")
BUILD_SORTS = ("id", "scheduled_on", "started_on", "ended_on")


@dataclass(frozen=True, slots=True)
class EnvironmentFilter:
    """Which environments are listed; what is None or empty does not matter."""

    namespace: str | None = None
    name: str | None = None
    search: str | None = None
    """A part of the name or of the namespace, in any case."""
    status: BuildStatus | None = None
    """Of the current build."""
    packages: tuple[str, ...] = ()
    """All are in the current build's lock."""
    has_image: bool = False
    """Whether the current build is complete, and so has an image and files."""
    is_on_disk: bool = False
    """Whether the current build is a directory."""


@dataclass(frozen=True, slots=True)
class BuildFilter:
    """Which builds are listed; what is None or empty does not matter."""

    namespace: str | None = None
    name: str | None = None
    environment: int | None = None
    status: BuildStatus | None = None
    packages: tuple[str, ...] = ()
    has_image: bool = False
    is_on_disk: bool = False


@dataclass(frozen=True, slots=True)
class Repetition:
    """What an earlier build of an environment has, and a later one may have as it is."""

    lock_key: str
    image_key: str
    size: int
    manifest: Descriptor
    """Of the image's index."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a build has made."""

    lock_key: str
    image_key: str
    size: int
    packages: tuple[str, ...] = field(default=())
    """The names of all packages of the lock, each once."""
