"""Content-addressed bytes.

A layer is a join of fragments, and a fragment is in many layers, so the store keeps a *join* as the list of its parts
rather than their copy: small runs of bytes inline, and files of the `fragments` folder by name. To a reader a join is a
blob like any other.

    blobs/sha256/ab/<hex>          the bytes
    blobs/sha256/ab/<hex>.join     the parts of a join, as JSON
    fragments/ab/<key>             a fragment's compressed bytes
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.digest import Digest
from storage.errors import BlobUnknown, DigestMismatch
from storage.files import atomic_write, sync_directory, sync_file

CHUNK = 1 << 20
SYNC_THREADS = 8
"""A disk takes several flushes at a time in little more than the time of one."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """`length` bytes of the file `path` from `offset`."""

    path: Path
    offset: int
    length: int


Segment = bytes | FileRange
"""A blob is served as segments in order: bytes from memory, ranges of files by sendfile."""


@dataclass(frozen=True, slots=True)
class FragmentPart:
    """A whole fragment, by its key, of `size` bytes, as a part of a join."""

    key: str
    size: int


Part = bytes | FragmentPart


class BlobStore(Protocol):
    """Bytes by their digest. Methods block: call them from threads or worker processes.

    A blob is visible to `size`, `segments` and `read` only after the `put` that made it has returned, and then whole
    and on stable storage. Every `put` may be repeated; the second changes nothing.
    """

    def size(self, digest: Digest) -> int:
        """Size in bytes; raises BlobUnknown."""

    def segments(self, digest: Digest, start: int = 0, stop: int | None = None) -> Sequence[Segment]:
        """The bytes [start, stop) as segments; raises BlobUnknown."""

    def read(self, digest: Digest) -> Iterator[bytes]:
        """The content in chunks; raises BlobUnknown."""

    def put(self, digest: Digest, content: Iterable[bytes]) -> int:
        """Store `content`, which must hash to `digest` (else DigestMismatch); returns its size."""

    def put_join(self, digest: Digest, parts: Sequence[Part]) -> int:
        """Store the join of `parts`, which the caller has hashed to `digest`; returns its size."""


class FileBlobStore:
    """A BlobStore in a folder of the local file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._fragments = root / "fragments"

    def path(self, digest: Digest) -> Path:
        return self._blobs / digest.algorithm / digest.hex[:2] / digest.hex

    def fragment_path(self, key: str) -> Path:
        return self._fragments / key[:2] / key

    def size(self, digest: Digest) -> int:
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self.path(digest)).st_size
        return sum(len(part) if isinstance(part, bytes) else part.size for part in self._parts(digest))

    def segments(self, digest: Digest, start: int = 0, stop: int | None = None) -> list[Segment]:
        path = self.path(digest)
        whole: Sequence[Segment]
        try:
            whole = [FileRange(path, 0, os.stat(path).st_size)]
        except FileNotFoundError:
            whole = [
                part if isinstance(part, bytes) else FileRange(self.fragment_path(part.key), 0, part.size)
                for part in self._parts(digest)
            ]
        return cut(whole, start, stop)

    def read(self, digest: Digest) -> Iterator[bytes]:
        for segment in self.segments(digest):
            yield from read_segment(segment)

    def put(self, digest: Digest, content: Iterable[bytes]) -> int:
        hasher = hashlib.new(digest.algorithm)
        size = 0
        with atomic_write(self.path(digest)) as file:
            for chunk in content:
                hasher.update(chunk)
                file.write(chunk)
                size += len(chunk)
            found = f"{digest.algorithm}:{hasher.hexdigest()}"
            if found != digest:
                raise DigestMismatch(digest, found)
        return size

    def put_join(self, digest: Digest, parts: Sequence[Part]) -> int:
        self._sync_fragments([part.key for part in parts if isinstance(part, FragmentPart)])
        document = [
            base64.b64encode(part).decode() if isinstance(part, bytes) else {"fragment": part.key, "size": part.size}
            for part in parts
        ]
        with atomic_write(self._join_path(digest)) as file:
            file.write(json.dumps(document).encode())
        return sum(len(part) if isinstance(part, bytes) else part.size for part in parts)

    def _join_path(self, digest: Digest) -> Path:
        path = self.path(digest)
        return path.with_name(path.name + ".join")

    def _parts(self, digest: Digest) -> list[Part]:
        try:
            document = json.loads(self._join_path(digest).read_bytes())
        except FileNotFoundError:
            raise BlobUnknown(digest) from None
        return [
            base64.b64decode(part) if isinstance(part, str) else FragmentPart(part["fragment"], part["size"])
            for part in document
        ]

    def _sync_fragments(self, keys: Sequence[str]) -> None:
        """Fragments are written without a flush, being a cache; a layer that refers to them needs them on the disk."""
        paths = [self.fragment_path(key) for key in keys]
        if len(paths) == 1:
            sync_file(paths[0])
            sync_directory(paths[0].parent)
        elif paths:
            with ThreadPoolExecutor(min(len(paths), SYNC_THREADS)) as threads:
                list(threads.map(sync_file, paths))
                list(threads.map(sync_directory, {path.parent for path in paths}))


def cut(segments: Sequence[Segment], start: int, stop: int | None) -> list[Segment]:
    """The bytes [start, stop) of the concatenation of `segments`."""
    result: list[Segment] = []
    position = 0
    for segment in segments:
        length = len(segment) if isinstance(segment, bytes) else segment.length
        first = max(start - position, 0)
        last = length if stop is None else min(stop - position, length)
        if first < last:
            if isinstance(segment, bytes):
                result.append(segment[first:last])
            else:
                result.append(FileRange(segment.path, segment.offset + first, last - first))
        position += length
    return result


def read_segment(segment: Segment, chunk: int = CHUNK) -> Iterator[bytes]:
    """The bytes of one segment, at most `chunk` at a time."""
    if isinstance(segment, bytes):
        yield segment
        return
    remaining = segment.length
    with open(segment.path, "rb") as file:
        file.seek(segment.offset)
        while remaining > 0:
            data = file.read(min(chunk, remaining))
            if not data:
                raise EOFError(f"{segment.path.name} is {remaining} bytes shorter than recorded")
            remaining -= len(data)
            yield data
