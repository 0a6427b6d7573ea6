"""Blobs for code that runs in threads: it reads base images and stores them, and writes images out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol, TypeVar

from storage.blobs.store import BlobStore
from storage.digest import Digest
from storage.errors import ServerStopping

T = TypeVar("T")


class BlobReader(Protocol):
    def read(self, digest: Digest) -> Iterator[bytes]:
        """Yield the content in chunks; raises BlobUnknown."""


class BlockingBlobs(BlobReader, Protocol):
    """Blobs by digest. Methods block: call them from threads, never from the event loop's."""

    def sizes(self, digests: Iterable[Digest]) -> Mapping[Digest, int]:
        """The sizes in bytes of the blobs that are stored. The garbage collection keeps them for its grace time."""

    def put(self, digest: Digest, content: Iterable[bytes]) -> int:
        """Store `content`, which must hash to `digest` (else DigestMismatch), and return its size. May be repeated."""


class StoreInThreads:
    """A BlobStore as BlockingBlobs. Make it in its event loop's thread, and keep that loop running.

    After `close`, calls that are under way in threads fail with ServerStopping: nothing else can stop them.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._calls: set[Future[Any]] = set()
        self._closed = False

    def sizes(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        found = self._wait(self._store.need(list(digests)))
        return {digest: blob.size for digest, blob in found.items()}

    def read(self, digest: Digest) -> Iterator[bytes]:
        return self._store.read(self._wait(self._store.find(digest)))

    def put(self, digest: Digest, content: Iterable[bytes]) -> int:
        return self._wait(self._store.put(digest, content)).size

    def close(self) -> None:
        with self._lock:
            self._closed = True
            calls = tuple(self._calls)
        for call in calls:
            call.cancel()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._closed:
                work.close()
                raise ServerStopping
            call = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._calls.add(call)
        try:
            return call.result()
        except CancelledError:
            raise ServerStopping from None
        finally:
            self._calls.discard(call)
