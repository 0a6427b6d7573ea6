"""A package as a search shows it, and as an index has it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

_ID_BITS = 52
"""JavaScript reads larger numbers wrong."""


class ListedPackage(NamedTuple):
    """What an index has of a record in a channel's repodata.

    Sizes are in bytes, the timestamp in milliseconds UTC; `depends` counts its dependencies.
    """

    name: str
    version: str
    build: str
    build_number: int
    subdir: str
    file_name: str
    license: str | None
    size: int | None
    timestamp: int | None
    sha256: str | None
    md5: str | None
    depends: int


@dataclass(frozen=True)
class SearchedChannel:
    """`name` is as people write it in a spec, `url` ends in `/`."""

    name: str
    url: str

    @property
    def id(self) -> int:
        """The same on every machine and after every restart."""
        return make_id(self.url)

    @property
    def key(self) -> str:
        """The name of its index without the suffix."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:32]


class FoundPackage(NamedTuple):
    """`channel` is the number of its channel among those that were searched."""

    channel: int
    id: int
    name: str
    version: str
    build: str
    build_number: int
    subdir: str
    license: str | None
    summary: str
    size: int | None
    timestamp: int | None
    sha256: str | None
    md5: str | None
    depends: int

    def to_json(self, channels: list[dict[str, Any]]) -> dict[str, Any]:
        """With `channels` in place of their numbers."""
        document = self._asdict()
        document["channel"] = channels[self.channel]
        return document


def make_id(*parts: str) -> int:
    """A number that stays the same, and that no two of a million things are likely to share."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - _ID_BITS) or 1
