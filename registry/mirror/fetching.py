"""Fetches blobs from other registries, each once for everybody who waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import IO

import structlog

from registry.mirror.download import Download, OpenFile
from registry.mirror.errors import MirrorError, UpstreamBroke, UpstreamLies, UpstreamLimits
from registry.mirror.names import Source
from registry.mirror.upstream import BlobStream, Upstream
from storage.blobs.rows import StoredBlob
from storage.blobs.store import BlobStore
from storage.cancellation import to_end
from storage.digest import Digest
from storage.errors import BlobUnknown, ConderyError, StorageFull, StorageUnavailable
from storage.objects.files import readable_part
from storage.objects.protocol import ObjectStore
from storage.quotas.arrivals import Arrival, arriving
from storage.repositories.mirrored import MirroredContent
from storage.repositories.pushed import Repositories

MOST_RESUMED = 5
"""How often in a row resuming may bring nothing."""

PAUSE_SECONDS = 0.2
"""The pause before the first attempt to resume; it doubles with each further one."""

log = structlog.get_logger(__name__)


class Fetching:
    """The downloads of this process. A download goes on after its clients hang up.

    `directory` holds blobs on their way into a store where unfinished objects cannot be read.
    """

    def __init__(
        self,
        upstream: Upstream,
        content: MirroredContent,
        repositories: Repositories,
        blobs: BlobStore,
        directory: Path,
    ) -> None:
        self._upstream = upstream
        self._content = content
        self._repositories = repositories
        self._blobs = blobs
        self._directory = directory
        self._running: dict[tuple[str, Digest], Download] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def running(self, source: Source, digest: Digest) -> Download | None:
        return self._running.get((source.scope, digest))

    def download(self, source: Source, digest: Digest) -> Download:
        """The blob's running download, or a new one."""
        key = (source.scope, digest)
        download = self._running.get(key)
        if download is None:
            download = self._running[key] = Download(source, digest)
            task = asyncio.create_task(self._run(download))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return download

    async def close(self) -> None:
        """Abort the running downloads, which leaves nothing behind."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, download: Download) -> None:
        source, digest = download.source, download.digest
        try:
            download.finish(await self._bring(download))
        except ConderyError as error:
            log.warning("blob not mirrored", repository=source.scope, digest=digest, reason=str(error))
            download.fail(error)
        except BaseException:
            download.fail(
                UpstreamBroke(source.registry, "is no longer waited for, because this server is stopping or failed")
            )
            raise
        finally:
            del self._running[source.scope, digest]

    async def _bring(self, download: Download) -> StoredBlob:
        source, digest = download.source, download.digest
        with contextlib.suppress(BlobUnknown):
            # it may have arrived since the caller looked for it
            return await self._repositories.blob(source.scope, digest)
        return await self._borrow(source, digest) or await self._fetch(download)

    async def _borrow(self, source: Source, digest: Digest) -> StoredBlob | None:
        """Use the blob of another repository of the same registry, if the registry says that this one has it too."""
        if not await self._content.has_near(digest, source.siblings):
            return None
        try:
            await self._upstream.blob_size(source, digest)
        except UpstreamLimits:
            raise
        except MirrorError:
            # that was only the cheap question; the answer to the fetch itself counts
            return None
        return await self._content.borrow(source.scope, digest, source.siblings)

    async def _fetch(self, download: Download) -> StoredBlob:
        source, digest = download.source, download.digest
        sizes = await self._content.sizes(source.scope, digest)
        async with arriving(self._blobs, self._repositories.room, source.scope, digest) as arrival:
            sink = _Sink(self._blobs.objects, arrival.key, digest, self._directory)
            try:
                await self._pump(download, sink, arrival, sizes)
                if sink.digest != digest:
                    raise UpstreamLies(source.registry, f"sent content with digest {sink.digest} for blob {digest}")
                await to_end(asyncio.to_thread(sink.commit))
                return await to_end(self._content.adopt(source.scope, StoredBlob(digest, sink.size, arrival.key)))
            finally:
                await to_end(asyncio.to_thread(sink.close))

    async def _pump(self, download: Download, sink: _Sink, arrival: Arrival, sizes: set[int]) -> None:
        """Transfer the whole blob, for which there is room, and resume where the connection breaks."""
        source, digest = download.source, download.digest
        in_vain = 0
        while download.size is None or sink.size < download.size:
            before = sink.size
            error: MirrorError = UpstreamBroke(source.registry, f"sent only {before} bytes of blob {digest}")
            try:
                async with self._upstream.blob(source, digest, sink.size) as stream:
                    size = _agree_on_size(source, digest, stream, sizes if download.size is None else {download.size})
                    if download.size is None:
                        await arrival.expect(size)
                        download.begin(size)
                    await _take(download, sink, stream, arrival, size)
            except UpstreamLies:
                raise
            except MirrorError as problem:
                if download.size is None:
                    raise
                error = problem
            in_vain = in_vain + 1 if sink.size == before else 0
            if in_vain > MOST_RESUMED:
                raise error
            if sink.size < (download.size or 0):
                log.info("blob resumed", repository=source.scope, digest=digest, size=sink.size, reason=str(error))
                await asyncio.sleep(PAUSE_SECONDS * 2**in_vain)


def _agree_on_size(source: Source, digest: Digest, stream: BlobStream, sizes: set[int]) -> int:
    """The blob's size, which must be one of `sizes` if manifests state any; raises UpstreamLies."""
    size = stream.size
    if size is None and len(sizes) == 1:
        (size,) = sizes
    if size is None:
        raise UpstreamLies(source.registry, f"does not state the size of blob {digest}")
    if sizes and size not in sizes:
        said = " or ".join(map(str, sorted(sizes)))
        raise UpstreamLies(source.registry, f"announced {size} bytes for blob {digest}, but it has {said}")
    return size


async def _take(download: Download, sink: _Sink, stream: BlobStream, arrival: Arrival, size: int) -> None:
    skip = stream.skip
    while data := await stream.content.readany():
        fresh = data[skip:]
        skip -= len(data) - len(fresh)
        if not fresh:
            continue
        if sink.size + len(fresh) > size:
            raise UpstreamLies(download.source.registry, f"sent more than {size} bytes for blob {download.digest}")
        # the room may have become that of others, if this process could not renew its hold in time
        await arrival.expect(size)
        # meanwhile the session's buffer fills with the next bytes
        await to_end(asyncio.to_thread(sink.take, fresh))
        download.advance(sink.size, sink.file)


class _Sink:
    """Hashes a blob's bytes, writes them into the store, and keeps them readable. Methods block."""

    def __init__(self, objects: ObjectStore, key: str, digest: Digest, directory: Path) -> None:
        self.size = 0
        self.file: OpenFile | None = None
        self._writer = objects.writer(key)
        self._part = readable_part(objects, key)
        self._hasher = digest.hasher()
        self._directory = directory
        self._spool: IO[bytes] | None = None

    @property
    def digest(self) -> Digest:
        return Digest.of_hasher(self._hasher)

    def take(self, data: bytes) -> None:
        """Take the next bytes; raises StorageError."""
        self._hasher.update(data)
        self._writer.write(data)
        if self._part is None:
            self._keep(data)
        elif self.file is None:
            self.file = OpenFile(os.open(self._part, os.O_RDONLY | os.O_CLOEXEC))
        self.size += len(data)

    def commit(self) -> None:
        self._writer.commit()

    def close(self) -> None:
        """Without an earlier `commit`, nothing is left."""
        self._writer.abort()
        # a traceback may keep this object alive for long
        self.file = None
        if self._spool is not None:
            self._spool.close()

    def _keep(self, data: bytes) -> None:
        """Write to a file without a name beside the store, so that nothing is left of it whatever happens."""
        try:
            if self._spool is None:
                self._directory.mkdir(parents=True, exist_ok=True)
                self._spool = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - closed by close
                self.file = OpenFile(os.dup(self._spool.fileno()))
            rest = memoryview(data)
            while rest:
                rest = rest[self._spool.write(rest) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(self._directory.name) from error
            raise StorageUnavailable(self._directory.name, error.strerror or str(error)) from error
