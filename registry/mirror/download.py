"""A blob in transit from another registry into the store and, as it arrives, to everybody who waits for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

from registry.mirror.errors import UpstreamSlow
from registry.mirror.names import Source
from storage.blobs.rows import StoredBlob
from storage.digest import Digest
from storage.errors import ConderyError

CHUNK = 256 << 10


class OpenFile:
    """An open file that closes itself when nothing refers to it any more."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class Download:
    """The part of a blob that has arrived; the transfer reports it with the methods at the end.

    A reader gets the last byte that it asked for only after the whole blob has matched its digest and is stored. Until
    then only the other registry vouches for the bytes.
    """

    def __init__(self, source: Source, digest: Digest) -> None:
        self.source = source
        self.digest = digest
        self.size: int | None = None
        self.blob: StoredBlob | None = None
        """The stored blob, once it is stored."""
        self._come = 0
        self._file: OpenFile | None = None
        self._failure: ConderyError | None = None
        self._changed = asyncio.Event()

    # for readers

    async def wait_for_size(self, seconds: float) -> int:
        """Wait for the blob's size. Raises UpstreamSlow after `seconds`, or the reason why there is no blob."""
        try:
            async with asyncio.timeout(seconds):
                while self.size is None:
                    await self._progress()
        except TimeoutError:
            raise UpstreamSlow(self.source.registry, seconds) from None
        return self.size

    async def wait_until_stored(self, seconds: float) -> bool:
        """Whether the blob is stored within `seconds`. Raises the reason why there is no blob."""
        try:
            async with asyncio.timeout(seconds):
                while self.blob is None:
                    await self._progress()
        except TimeoutError:
            return False
        return True

    async def read(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes [start, stop) as they arrive. Raises the reason why no more will come."""
        position = start
        while position < stop or self.blob is None:
            ready = stop if self.blob is not None else min(self._come, stop - 1)
            if position < ready and self._file is not None:
                chunk = await asyncio.to_thread(_read, self._file, position, min(ready - position, CHUNK))
                position += len(chunk)
                yield chunk
            else:
                await self._progress()

    async def _progress(self) -> None:
        """Wait for news; raises the reason why there will be none."""
        if self._failure is not None:
            raise self._failure.for_another() from self._failure.__cause__
        await self._changed.wait()

    # for the transfer

    def begin(self, size: int) -> None:
        self.size = size
        self._tell()

    def advance(self, come: int, file: OpenFile | None) -> None:
        """Report that the first `come` bytes can be read from `file`."""
        self._come, self._file = come, file
        self._tell()

    def finish(self, blob: StoredBlob) -> None:
        self.blob, self.size = blob, blob.size
        self._tell()

    def fail(self, error: ConderyError) -> None:
        self._failure, self._file = error, None
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _read(file: OpenFile, position: int, count: int) -> bytes:
    chunk = os.pread(file.number, count, position)
    if not chunk:
        raise EOFError("a file being written is shorter than what was written to it")
    return chunk
