"""The read path's cache of the database: bounded, and trusted only while nothing has changed.

Every entry has the stamp that its repository had before the database was queried (`storage.events.changes`).
"""

from __future__ import annotations

import time
from typing import NamedTuple

from cachetools import LRUCache

from registry.http.manifests import Prepared, Variants
from storage.blobs.rows import StoredBlob
from storage.digest import Digest

OVERHEAD = 1024
"""The assumed cost of an entry in bytes besides its content."""

BLOB_SHARE = 8
"""One part in so many of the memory is for the places of blobs."""


class _Manifest(NamedTuple):
    stamp: int
    prepared: Prepared


class _Tag(NamedTuple):
    stamp: int
    variants: Variants
    until: float


class _Blob(NamedTuple):
    stamp: int
    blob: StoredBlob


class Memory:
    """Manifests by digest and by tag, and the places of blobs: at most `most` bytes in all, tags for `tag_seconds`.

    The time limit on tags backs up the stamps, for changes by processes on other machines.
    """

    def __init__(self, most: int, tag_seconds: float) -> None:
        self._tag_seconds = tag_seconds
        share = most // BLOB_SHARE
        half = (most - share) // 2
        self._digests: LRUCache[tuple[str, str], _Manifest] = LRUCache(half, lambda entry: _size(entry.prepared.body))
        self._tags: LRUCache[tuple[str, str], _Tag] = LRUCache(half, lambda entry: OVERHEAD + entry.variants.size)
        self._blobs: LRUCache[tuple[str, str], _Blob] = LRUCache(share, lambda entry: _blob_size(entry.blob))

    def digest(self, scope: str, digest: str, stamp: int) -> Prepared | None:
        entry = self._digests.get((scope, digest))
        return entry.prepared if entry is not None and entry.stamp == stamp else None

    def keep_digest(self, scope: str, prepared: Prepared, stamp: int) -> None:
        if _size(prepared.body) <= self._digests.maxsize:
            self._digests[scope, prepared.digest] = _Manifest(stamp, prepared)

    def tag(self, repository: str, tag: str, stamp: int) -> Variants | None:
        try:
            entry = self._tags[repository, tag]
        except KeyError:
            return None
        return entry.variants if entry.stamp == stamp and entry.until > time.monotonic() else None

    def keep_tag(self, repository: str, tag: str, variants: Variants, stamp: int) -> None:
        # monotonic, not the time of day: a clock that was ahead would make it stay long after being corrected
        until = time.monotonic() + min(variants.expires - time.time(), self._tag_seconds)
        if OVERHEAD + variants.size <= self._tags.maxsize:
            self._tags[repository, tag] = _Tag(stamp, variants, until)

    def blob(self, scope: str, digest: Digest, stamp: int) -> StoredBlob | None:
        entry = self._blobs.get((scope, digest))
        return entry.blob if entry is not None and entry.stamp == stamp else None

    def keep_blob(self, scope: str, blob: StoredBlob, stamp: int) -> None:
        if _blob_size(blob) <= self._blobs.maxsize:
            self._blobs[scope, blob.digest] = _Blob(stamp, blob)


def _size(body: bytes) -> int:
    return OVERHEAD + len(body)


def _blob_size(blob: StoredBlob) -> int:
    return OVERHEAD + sum(len(part) if isinstance(part, bytes) else OVERHEAD for part in blob.parts)
