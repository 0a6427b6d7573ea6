"""A finished image, as known to those who make it on demand and those who serve it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from builder.solve.resolution import FOREVER
from storage.digest import Descriptor


@dataclass(frozen=True)
class FinishedImage:
    """A finished image: the same content in the forms that clients accept, the preferred form first."""

    lock_key: str
    variants: tuple[Descriptor, ...]
    """The OCI index (unless the spec is `single`), then the first platform's OCI manifest and docker schema 2
    manifest."""
    warnings: tuple[str, ...] = ()
    expires: float = FOREVER
    """UNIX seconds until which the tag that was asked for means this image."""

    def to_json(self) -> dict[str, Any]:
        return {
            "lock_key": self.lock_key,
            "variants": [variant.to_json() for variant in self.variants],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            lock_key=document["lock_key"],
            variants=tuple(Descriptor.from_json(variant) for variant in document["variants"]),
            warnings=tuple(document["warnings"]),
        )
