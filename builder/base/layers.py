"""Layers on their way into the blob store: compressing and inspecting them."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from builder.base.vocabulary import BaseLayer
from builder.layers.codec import CODEC, open_expanded
from builder.layers.compressor import Compressor
from storage.blobs.blocking import BlockingBlobs
from storage.digest import Descriptor, Digest
from storage.objects.segments import CHUNK

_SHELL = frozenset({"bin/sh", "usr/bin/sh"})
_BASH = frozenset({"bin/bash", "usr/bin/bash"})
_VERSION_IN_NAME = re.compile(r"libc-(\d{1,4}\.\d{1,4})\.so")
_BANNER = b"GNU C Library "
"""What begins the line of libc.so.6 that has its version."""
_VERSION_IN_BANNER = re.compile(rb" version (\d{1,4}\.\d{1,4})(?!\d)")


class LayerWriter(io.RawIOBase):
    """Takes a tar, writes it compressed to `file`, and then knows its digests and size.

    The codec always gets CHUNK bytes at a time, so the same tar gives the same blob, however it was written here.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._digest = hashlib.sha256()
        self._diff_id = hashlib.sha256()
        self._compressor = Compressor(file.write, self._digest, self._diff_id, CHUNK)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # typeshed's Buffer is wider than what comes here
        self._compressor.add(data)
        return len(data)

    def finish(self) -> BaseLayer:
        """Write the rest, and return the layer that the file now holds."""
        self._compressor.finish()
        digest = Digest("sha256:" + self._digest.hexdigest())
        descriptor = Descriptor(CODEC.media_type, digest, self._compressor.size)
        return BaseLayer(descriptor, Digest("sha256:" + self._diff_id.hexdigest()))


class ChunkReader(io.RawIOBase):
    """Presents an iterator of chunks as a readable file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer is wider
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        taken = self._left[: len(buffer)]
        self._left = self._left[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of `file`, at most CHUNK bytes at a time."""
    while chunk := file.read(CHUNK):
        yield chunk


def open_tar_stream(chunks: Iterable[bytes]) -> IO[bytes]:
    """Open the uncompressed tar of a layer's blob, which is compressed with gzip, with zstd, or not at all."""
    return open_expanded(io.BufferedReader(ChunkReader(chunks), CHUNK))


def are_stored(layers: Iterable[BaseLayer], blobs: BlockingBlobs) -> bool:
    """Whether the store has all layers in their sizes, and will keep them while an image is made on them."""
    wanted = {layer.descriptor.digest: layer.descriptor.size for layer in layers}
    return blobs.sizes(wanted) == wanted


@dataclass(frozen=True)
class RootFacts:
    """What the builder needs to know about a root file system."""

    glibc: str | None = None
    has_shell: bool = False
    bash: str | None = None
    """Absolute path."""
    links: tuple[str, ...] = ()
    """Absolute paths of symbolic links, sorted."""


def look_into(layers: Iterable[BaseLayer], blobs: BlockingBlobs) -> RootFacts:
    """Read every layer once, lowest first. Raises tarfile.TarError and OSError."""
    shells: set[str] = set()
    links: set[str] = set()
    versions: dict[str, str | None] = {}
    for layer in layers:
        with (
            open_tar_stream(blobs.read(layer.descriptor.digest)) as stream,
            tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar,
        ):
            for member in tar:
                _look_at(tar, member, shells, links, versions)
    known = [version for version in versions.values() if version]
    return RootFacts(
        glibc=max(known, key=_parse_version, default=None),
        has_shell=not shells.isdisjoint(_SHELL),
        bash=min((f"/{path}" for path in shells & _BASH), default=None),
        links=tuple(sorted(f"/{path}" for path in links)),
    )


def _look_at(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    shells: set[str],
    links: set[str],
    versions: dict[str, str | None],
) -> None:
    path = member.name.removeprefix("./").strip("/")
    links.discard(path)
    if member.issym():
        links.add(path)
    directory, _, name = path.rpartition("/")
    if name.startswith(".wh."):
        hidden = f"{directory}/{name.removeprefix('.wh.')}".lstrip("/")
        shells.discard(hidden)
        links.discard(hidden)
        versions.pop(hidden, None)
    elif path in _SHELL | _BASH:
        shells.add(path)
    elif name == "libc.so.6":
        versions[path] = _read_glibc_version(tar, member)


def _read_glibc_version(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    if member.issym():  # up to glibc 2.33
        match = _VERSION_IN_NAME.search(member.linkname)
        return match[1] if match else None
    file = tar.extractfile(member) if member.isreg() else None
    return _find_version(file.read(16 << 20)) if file else None


def _find_version(library: bytes) -> str | None:
    """Search each line once: a file may be one long line of beginnings."""
    begin = library.find(_BANNER)
    while begin >= 0:
        begin += len(_BANNER)
        end = library.find(b"\n", begin)
        if end < 0:
            end = len(library)
        if found := _VERSION_IN_BANNER.search(library, begin, end):
            return found[1].decode()
        begin = library.find(_BANNER, end)
    return None


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
