"""Joins: blobs that are lists of fragments. This is the part that a process without a database needs."""

from __future__ import annotations

from dataclasses import dataclass

from storage.digest import Digest


@dataclass(frozen=True, slots=True)
class FragmentPart:
    """A whole fragment of `size` bytes, by its key, as part of a join."""

    key: str
    size: int


Part = bytes | FragmentPart


@dataclass(frozen=True, slots=True)
class Join:
    """A blob to make of fragments; the caller has hashed their bytes to `digest`."""

    digest: Digest
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(len(part) if isinstance(part, bytes) else part.size for part in self.parts)

    @property
    def fragments(self) -> list[str]:
        return [part.key for part in self.parts if isinstance(part, FragmentPart)]


@dataclass(frozen=True)
class Layer:
    """A join, the key of its ingredients, and the facts that an image's config states about it."""

    key: str
    join: Join
    diff_id: Digest
    uncompressed_size: int
