"""Content digests and descriptors, as in the OCI image specification (descriptor.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from storage.errors import DigestInvalid
from storage.oci import DIGEST

ALGORITHMS = ("sha256", "sha512")
"""The algorithms that descriptors may use here."""


class Hasher(Protocol):
    """A hash object of hashlib."""

    @property
    def name(self) -> str: ...

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...

    def copy(self) -> Hasher: ...


def new_hasher(algorithm: str) -> Hasher:
    """A hasher for `sha256` or `sha512`; raises DigestInvalid for others, even if hashlib knows them."""
    if algorithm not in ALGORITHMS:
        raise DigestInvalid(algorithm)
    return hashlib.new(algorithm, usedforsecurity=False)


class Digest(str):
    """A checked `algorithm:hex` string; a `str` so that it is its own JSON, key and log value."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The digest in `text`; raises DigestInvalid."""
        if not DIGEST.fullmatch(text):
            raise DigestInvalid(text)
        return cls(text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """The digest of `data`; raises DigestInvalid for an unsupported algorithm."""
        hasher = new_hasher(algorithm)
        hasher.update(data)
        return cls.of_hasher(hasher)

    def hasher(self) -> Hasher:
        """A new hasher for this digest's algorithm."""
        return new_hasher(self.algorithm)

    @classmethod
    def of_hasher(cls, hasher: Hasher) -> Self:
        """The digest of all bytes that `hasher` was given."""
        return cls(f"{hasher.name}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to content: media type, digest and size in bytes; an index's entry has its OCI platform, a manifest
    its artifact type.
    """

    media_type: str
    digest: Digest
    size: int
    platform: Mapping[str, str] | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.platform:
            document["platform"] = dict(self.platform)
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            media_type=document["mediaType"],
            digest=Digest.parse(document["digest"]),
            size=int(document["size"]),
            platform=document.get("platform"),
            annotations=document.get("annotations", {}),
            artifact_type=document.get("artifactType"),
        )
