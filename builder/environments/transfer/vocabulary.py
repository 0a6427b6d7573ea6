"""What an exported environment says of itself: the document of docs/export.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.digest import Descriptor
from storage.environments.log_writing import MOST_BYTES, RESERVE
from storage.environments.vocabulary import BuildStatus

VERSION = 1
"""Of the format. A reader refuses what it does not know."""

ENVIRONMENT_TYPE = "application/vnd.condery.environment.v1+json"
"""The type of the artifact, and of its document."""
LOCK_TYPE = "application/vnd.condery.lock.v1+json"
LOG_TYPE = "application/vnd.condery.log.v1+json-lines"

SPECIFICATION_TYPE = "application/vnd.condery.specification.v1+json"

MOST_BUILDS = 10_000
LONGEST_TEXT = 10_000
"""Characters of a text that people read."""
LARGEST_DOCUMENT = 32 << 20
LARGEST_SPECIFICATION = 64 << 20
LARGEST_MANIFEST = 4 << 20
LARGEST_LOCK = 64 << 20
LARGEST_LOG = MOST_BYTES + RESERVE
LARGEST_SETTINGS = 1 << 20
"""Bytes of all settings of an environment, as JSON."""
MOST_IMAGE_MANIFESTS = 100


@dataclass(frozen=True, slots=True)
class ExportedSpecification:
    name: str
    document: Mapping[str, Any]
    """What clients see, which is what an import builds anew."""
    request: Mapping[str, Any]
    """What the exporting server made of it. An import takes nothing from it."""

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "document": dict(self.document), "request": dict(self.request)}


@dataclass(frozen=True, slots=True)
class ExportedBase:
    platform: str
    reference: str
    digest: str | None

    def __str__(self) -> str:
        return f"{self.reference}@{self.digest}" if self.digest else self.reference

    def to_json(self) -> dict[str, Any]:
        return {"platform": self.platform, "reference": self.reference, "digest": self.digest}


@dataclass(frozen=True, slots=True)
class ExportedImage:
    top: Descriptor
    """Of the index, or of the one manifest of an image that has no index."""
    manifests: tuple[Descriptor, ...]
    """All of the image, with `top` and those for docker."""
    warnings: tuple[str, ...]
    bases: tuple[ExportedBase, ...]
    made_with: Mapping[str, Any] | None
    """What of the builder decides on the bytes; None if a version made it that is not known any more."""
    has_bytes: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "top": self.top.to_json(),
            "manifests": [each.to_json() for each in self.manifests],
            "warnings": list(self.warnings),
            "bases": [each.to_json() for each in self.bases],
            "made_with": dict(self.made_with) if self.made_with is not None else None,
            "has_bytes": self.has_bytes,
        }


@dataclass(frozen=True, slots=True)
class ExportedBuild:
    """A build that has ended. Times are UNIX seconds."""

    id: int
    specification: int
    """Its position among those of the environment."""
    status: BuildStatus
    status_info: str | None
    cause: str
    lock: str | None
    same_as: int | None
    size: int
    scheduled: float
    started: float | None
    ended: float | None
    created_by: str
    image: ExportedImage | None
    log: Descriptor | None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "specification": self.specification,
            "status": self.status,
            "status_info": self.status_info,
            "cause": self.cause,
            "lock": self.lock,
            "same_as": self.same_as,
            "size": self.size,
            "scheduled": self.scheduled,
            "started": self.started,
            "ended": self.ended,
            "created_by": self.created_by,
            "image": self.image.to_json() if self.image else None,
            "log": self.log.to_json() if self.log else None,
        }


@dataclass(frozen=True, slots=True)
class ExportedEnvironment:
    namespace: str
    name: str
    description: str
    settings: Mapping[str, Any]
    created: float
    created_by: str
    current_build: int | None
    specifications: tuple[Descriptor, ...]
    builds: tuple[ExportedBuild, ...]
    """In the order of their ids."""
    locks: Mapping[str, Descriptor]
    """The documents of locks by their keys."""
    exported: float
    exporter: str
    """The version of condery that wrote it."""

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "exported": self.exported,
            "exporter": self.exporter,
            "environment": {
                "namespace": self.namespace,
                "name": self.name,
                "description": self.description,
                "settings": dict(self.settings),
                "created": self.created,
                "created_by": self.created_by,
                "current_build": self.current_build,
            },
            "specifications": [each.to_json() for each in self.specifications],
            "builds": [each.to_json() for each in self.builds],
            "locks": {key: each.to_json() for key, each in self.locks.items()},
        }
