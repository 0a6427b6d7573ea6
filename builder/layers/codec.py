"""How layers are compressed. Only this module knows the compression, its media type, and how to read it.

CODEC            compresses the fragments and layers made here
open_expanded    reads a layer from anywhere, whichever codec compressed it
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol, cast

import zstandard
from isal import igzip, igzip_lib, isal_zlib

from storage.oci import OCI_LAYER_GZIP

_READ = 1 << 16
_EXPAND = 1 << 20


class Broken(Exception):
    """Compressed bytes that are damaged, truncated, or followed by other bytes."""


class Compression(Protocol):
    """A stream in the course of compression."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes: ...

    def flush(self) -> bytes:
        """End the stream and return its last bytes."""


@dataclass(frozen=True)
class Codec:
    """A compression whose streams can be joined: concatenated streams expand to their concatenated contents.

    The same bytes in the same pieces compress to the same bytes on every machine.
    """

    name: str
    """Part of the keys of fragments."""
    media_type: str
    """Media type of a layer (image-spec media-types.md)."""
    magic: bytes
    """The first bytes of every stream."""
    compress: Callable[[], Compression]
    """Starts a stream."""
    expand: Callable[[IO[bytes]], Iterator[tuple[bytes, bytes]]]
    """Yields the compressed and the plain bytes, in step, of a file that is one stream. Raises Broken."""
    open: Callable[[IO[bytes]], IO[bytes]]
    """Opens the content of a file of one or more streams for reading. The result's methods raise OSError and
    EOFError."""


def _compress_gzip() -> Compression:
    return isal_zlib.compressobj(1, wbits=31)


def _expand_gzip(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    decompressor = isal_zlib.decompressobj(wbits=31)
    try:
        while packed := file.read(_READ):
            yield packed, decompressor.decompress(packed, _EXPAND)
            while rest := decompressor.unconsumed_tail:
                yield b"", decompressor.decompress(rest, _EXPAND)
        yield b"", decompressor.flush()
    except igzip_lib.IsalError as error:  # type: ignore[misc]  # isal's stub declares it as an object
        raise Broken(str(error)) from error
    if not decompressor.eof or decompressor.unused_data:
        raise Broken("truncated, or followed by other bytes")


def _open_gzip(file: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], igzip.IGzipFile(fileobj=file, mode="rb"))  # type: ignore[no-untyped-call]  # the stub declares it so


GZIP = Codec(
    # isal's level 1 gives the same bytes on every x86-64 machine; level 3 does not
    name="gzip-isal-1",
    media_type=OCI_LAYER_GZIP,
    magic=b"\x1f\x8b",
    compress=_compress_gzip,
    expand=_expand_gzip,
    open=_open_gzip,
)

CODEC = GZIP

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def open_expanded(file: io.BufferedReader) -> IO[bytes]:
    """Open the content of `file`, which is compressed with gzip, with zstd, or not at all."""
    start = file.peek(4)[:4]
    if start.startswith(GZIP.magic):
        return GZIP.open(file)
    if start == _ZSTD_MAGIC:
        return cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
    return file
