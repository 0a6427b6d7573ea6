"""Objects in a bucket of an S3 store.

    <prefix>ab/<key>            an object
    <prefix>check-<hex>         exists for a moment while the store is checked

An object is invisible before its `commit`: one that fits into a single part is put whole, and a larger one is a
multipart upload. A writer that never ended leaves at most such an upload, which is listed under its key's name.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from storage.errors import ObjectMissing, StorageError, StorageUnavailable
from storage.objects.protocol import ObjectPart, ObjectWriter, writing
from storage.objects.s3_bucket import Bucket, S3Location, Unsupported
from storage.objects.s3_plan import Copied, Piece, Range, part_size, plan_join
from storage.objects.segments import CHUNK, Segment, StreamRange

THREADS = 8
"""Concurrent requests where one call needs many."""

READ_ATTEMPTS = 3
"""Attempts to go on after a broken connection that brought nothing."""


class S3Objects:
    """An ObjectStore in a bucket."""

    def __init__(self, location: S3Location) -> None:
        self._location = location
        self._bucket = Bucket(location)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self.buffered = location.part_size + 2 * CHUNK
        self._copies = True
        """Whether the store can copy a part; True until it refuses."""

    def name(self, key: str) -> str:
        """The object's name in the bucket."""
        return f"{self._location.prefix}{key[:2]}/{key}"

    def writer(self, key: str) -> ObjectWriter:
        return _S3Writer(self._bucket, self.name(key), self._location.part_size)

    def segments(self, key: str, start: int, stop: int) -> list[Segment]:
        return [StreamRange(lambda: self._read(key, start, stop), stop - start)] if stop > start else []

    def concatenate(self, key: str, parts: Sequence[ObjectPart]) -> None:
        pieces = plan_join(parts)
        if self._copies and any(isinstance(piece, Copied) for piece in pieces):
            try:
                self._join(key, pieces, sum(part.size for part in parts))
                return
            except Unsupported:
                self._copies = False
        with writing(self, key) as writer:
            for part in parts:
                for chunk in self._read(part.key, 0, part.size):
                    writer.write(chunk)

    def delete(self, keys: Iterable[str]) -> None:
        names = [self.name(key) for key in keys]
        # uploads first: one that is being completed at this moment then is either an object, or never will be
        with contextlib.suppress(Unsupported):
            for _ in self._threads.map(self._cancel_uploads, names):
                pass
        self._bucket.delete(names)

    def link(self, key: str, *, media_type: str) -> str | None:
        return None if self._location.proxy else self._bucket.link(self.name(key), media_type)

    def check(self) -> None:
        self._bucket.check(f"{self._location.prefix}check-{secrets.token_hex(8)}")

    def _read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes [start, stop) in chunks; resumes after a broken connection."""
        position, attempts = start, READ_ATTEMPTS
        while position < stop:
            try:
                stream = self._bucket.get(self.name(key), position, stop)
            except ObjectMissing:
                raise ObjectMissing(key) from None
            with contextlib.closing(stream):
                while position < stop:
                    try:
                        chunk = self._bucket.read(stream, CHUNK)
                    except StorageUnavailable:
                        attempts -= 1
                        if not attempts:
                            raise
                        break
                    attempts = READ_ATTEMPTS
                    position += len(chunk)
                    yield chunk

    def _join(self, key: str, pieces: Sequence[Piece], size: int) -> None:
        """Join pieces; raises Unsupported if the store cannot copy."""
        upload = _Upload(self._bucket, self.name(key))
        copies: list[Future[None]] = []
        try:
            for number, piece in enumerate(pieces, 1):
                if isinstance(piece, Copied):
                    copies.append(self._threads.submit(self._copy, upload, number, piece.source))
            for number, piece in enumerate(pieces, 1):
                if not isinstance(piece, Copied):
                    upload.send(number, _Body(memoryview(b"".join(self._ranges(piece.sources)))))
            for copy in copies:
                copy.result()
            upload.complete(size)
        except BaseException:
            for copy in copies:
                copy.cancel()
            wait(copies)
            upload.cancel()
            raise

    def _copy(self, upload: _Upload, number: int, source: Range) -> None:
        try:
            # AWS copies no range of a small object, even if it is the whole object
            span = (source.start, source.stop) if source.length < source.size else None
            upload.copy(number, self.name(source.key), span)
        except ObjectMissing:
            raise ObjectMissing(source.key) from None

    def _ranges(self, ranges: Iterable[Range]) -> Iterator[bytes]:
        for each in ranges:
            yield from self._read(each.key, each.start, each.stop)

    def _cancel_uploads(self, name: str) -> None:
        for upload in self._bucket.list_unfinished(name):
            self._bucket.cancel(name, upload)


class _Upload:
    """A multipart upload in progress. Several threads may send parts."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket = bucket
        self._name = name
        self._id = bucket.begin(name)
        self._etags: dict[int, str] = {}
        self._completing = False

    @property
    def parts(self) -> int:
        return len(self._etags)

    def send(self, number: int, body: _Body) -> None:
        self._etags[number] = self._bucket.upload(self._name, self._id, number, body)

    def copy(self, number: int, source: str, span: tuple[int, int] | None) -> None:
        self._etags[number] = self._bucket.copy(self._name, self._id, number, source, span)

    def complete(self, size: int) -> None:
        self._completing = True
        self._bucket.complete(self._name, self._id, [self._etags[number] for number in sorted(self._etags)], size)

    def cancel(self) -> None:
        """Remove the upload. If the store cannot be reached, `S3Objects.delete` removes it later."""
        with contextlib.suppress(StorageError):
            self._bucket.cancel(self._name, self._id)
            if self._completing:
                self._bucket.discard(self._name)


class _S3Writer:
    """Buffers one part in memory, and sends it once more bytes come."""

    def __init__(self, bucket: Bucket, name: str, first_part: int) -> None:
        self.size = 0
        self._bucket = bucket
        self._name = name
        self._first_part = first_part
        self._buffer: mmap.mmap | None = None
        """Its own memory pages, which the system gives one by one and takes back all at once."""
        self._filled = 0
        self._upload: _Upload | None = None
        self._putting = False
        self._ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            buffer = self._room()
            taken = rest[: len(buffer) - self._filled]
            buffer[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            self.size += len(taken)
            rest = rest[len(taken) :]

    def commit(self) -> None:
        if self._upload is None:
            self._putting = True
            self._bucket.put(self._name, self._body())
        else:
            self._send()
            self._upload.complete(self.size)
        self._end()

    def abort(self) -> None:
        if self._ended:
            return
        if self._upload is not None:
            self._upload.cancel()
        elif self._putting:
            # as far as we know, it failed
            with contextlib.suppress(StorageError):
                self._bucket.discard(self._name)
        self._end()

    def _room(self) -> mmap.mmap:
        """A buffer that is not full."""
        if self._buffer is not None and self._filled < len(self._buffer):
            return self._buffer
        if self._filled:
            self._send()
        wanted = part_size(self._first_part, self.size)
        if self._buffer is None or len(self._buffer) < wanted:
            self._buffer = mmap.mmap(-1, wanted)
        return self._buffer

    def _send(self) -> None:
        """Send the buffer as the next part."""
        if self._upload is None:
            self._upload = _Upload(self._bucket, self._name)
        self._upload.send(self._upload.parts + 1, self._body())
        self._filled = 0

    def _body(self) -> _Body:
        return _Body(memoryview(self._buffer or b"")[: self._filled])

    def _end(self) -> None:
        self._ended = True
        self._buffer = None


class _Body:
    """Memory as a file, for two reasons.

    The HTTP library limits the time of each `send`: it sends bytes with one, and a file with many. And nothing is
    copied.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def __len__(self) -> int:
        return len(self._content)

    def read(self, size: int = -1) -> memoryview:
        stop = len(self._content) if size < 0 else self._position + size
        data = self._content[self._position : stop]
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position
