"""How layers are compressed: the one module that knows with what, what it is called, and how it is read again.

CODEC            what fragments and layers are compressed with here
open_expanded    reads a layer of anybody's, whichever codec it is compressed with
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
    """Compressed bytes that are damaged, truncated, or followed by something."""


class Compression(Protocol):
    """A stream that is being compressed."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes: ...

    def flush(self) -> bytes:
        """The rest; nothing is compressed after it."""


@dataclass(frozen=True)
class Codec:
    """What is compressed with it can be joined: streams one after the other expand to their bytes one after the other.

    The same bytes in the same pieces are compressed to the same bytes on every machine.
    """

    name: str
    """Part of the keys of fragments."""
    media_type: str
    """Of a layer (image-spec media-types.md)."""
    magic: bytes
    """What every stream begins with."""
    compress: Callable[[], Compression]
    """Begins a stream."""
    expand: Callable[[IO[bytes]], Iterator[tuple[bytes, bytes]]]
    """Gives the bytes of a file that is one stream, compressed and plain, in step; raises Broken."""
    open: Callable[[IO[bytes]], IO[bytes]]
    """Gives a file to read what another, of one or more streams, expands to; its methods raise OSError, EOFError."""


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
    except igzip_lib.IsalError as error:  # type: ignore[misc]  # isal's stub has it as an object
        raise Broken(str(error)) from error
    if not decompressor.eof or decompressor.unused_data:
        raise Broken("truncated, or followed by something")


def _open_gzip(file: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], igzip.IGzipFile(fileobj=file, mode="rb"))  # type: ignore[no-untyped-call]  # published so


GZIP = Codec(
    # level 1 of isal gives the same bytes on every x86-64 machine; level 3 does not
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
    """What `file` expands to, whichever of gzip, zstd and nothing it is compressed with."""
    start = file.peek(4)[:4]
    if start.startswith(GZIP.magic):
        return GZIP.open(file)
    if start == _ZSTD_MAGIC:
        return cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
    return file
