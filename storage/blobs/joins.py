"""Joins: blobs that are lists of fragments. As much of them as a process has to know that has no database."""

from __future__ import annotations

from dataclasses import dataclass

from storage.digest import Digest


@dataclass(frozen=True, slots=True)
class FragmentPart:
    """A whole fragment, by its key, of `size` bytes, as a part of a join."""

    key: str
    size: int


Part = bytes | FragmentPart


@dataclass(frozen=True, slots=True)
class Join:
    """A blob to be made of fragments, which the caller has hashed to `digest`."""

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
    """A join by the key of what it is made of, and what an image's config says of it."""

    key: str
    join: Join
    diff_id: Digest
    uncompressed_size: int
