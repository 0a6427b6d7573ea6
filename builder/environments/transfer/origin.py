"""The build elsewhere that an imported build was, as its specification remembers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from builder.environments.transfer.document import read_image
from builder.environments.transfer.vocabulary import ExportedBuild, ExportedEnvironment, ExportedImage


@dataclass(frozen=True)
class Origin:
    """Times are UNIX seconds."""

    environment: str
    """`namespace/name` there."""
    build: int
    exporter: str
    """The version of condery that wrote it."""
    cause: str
    created_by: str
    scheduled: float
    started: float | None
    ended: float | None
    lock_key: str | None
    image: ExportedImage | None

    @classmethod
    def of(cls, environment: ExportedEnvironment, build: ExportedBuild) -> Self:
        return cls(
            f"{environment.namespace}/{environment.name}",
            build.id,
            environment.exporter,
            build.cause,
            build.created_by,
            build.scheduled,
            build.started,
            build.ended,
            build.lock,
            build.image,
        )

    def __str__(self) -> str:
        return f"build {self.build} of {self.environment}"

    def to_json(self) -> dict[str, Any]:
        return {
            "environment": self.environment,
            "build": self.build,
            "exporter": self.exporter,
            "cause": self.cause,
            "created_by": self.created_by,
            "scheduled": self.scheduled,
            "started": self.started,
            "ended": self.ended,
            "lock_key": self.lock_key,
            "image": self.image.to_json() if self.image else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        image = document["image"]
        return cls(**{**document, "image": read_image(image, "image") if image is not None else None})
