"""The logs of environments' builds, which are only appended to.

While a build runs, its log is rows of pieces, each of whole records and appended in one transaction with the log's
size: whoever dies while writing leaves no half of a record. A log that has ended becomes one blob, which its row keeps
from the garbage collection, and its pieces are deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import structlog
from sqlalchemy import and_, delete, func, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import StoredBlob, need_rows
from storage.blobs.store import BlobStore
from storage.database.engine import Database, batches
from storage.database.log_tables import environment_log, environment_log_piece
from storage.database.sql_clock import database_time
from storage.digest import Digest, new_hasher
from storage.errors import BlobUnknown, DigestMismatch, StorageError, StorageUnavailable
from storage.events.hints import hear, hint
from storage.objects.segments import read_segment

CHANNEL = "condery_logs"

PAGE = 256 << 10
"""Bytes of a log that are read at once."""
ABANDONED_SECONDS = 7 * 24 * 3600.0
"""After so long without a word a log has no writer any more."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LogState:
    """How many bytes a log has, and whether it gets no more."""

    size: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Appended:
    """Whole records for the end of a build's log; `begins` if the log may not be there yet."""

    build: int
    content: bytes
    begins: bool = False


View = Callable[[int, bytes], bytes]
"""Makes of whole records, and the position of the first, what a reader gets."""


@dataclass(frozen=True, slots=True)
class Page:
    """Whole records of a log from the byte at `position` on."""

    position: int
    content: bytes
    _made: dict[View, bytes] = field(default_factory=dict, repr=False, compare=False)

    def through(self, view: View) -> bytes:
        """The page as `view` makes it: once, for all readers that come to it."""
        made = self._made.get(view)
        if made is None:
            made = self._made[view] = view(self.position, self.content)
        return made

    @property
    def stop(self) -> int:
        """The position after it."""
        return self.position + len(self.content)


class Logs:
    """Logs by the ids of builds. All methods raise StorageUnavailable, StorageFull and StorageBusy."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._database = blobs.database
        self._hearers: set[Callable[[], None]] = set()

    async def append(self, additions: Sequence[Appended]) -> dict[int, int]:
        """Append to several logs, all or none; return their sizes. A log that has ended or is deleted has none.

        A build is named once, and its content ends with the end of a record.
        """
        sizes: dict[int, int] = {}
        async with self._database.writing() as connection:
            # in the order in which every process locks rows
            for addition in sorted(additions, key=lambda each: each.build):
                size = await self._append(connection, addition)
                if size is not None:
                    sizes[addition.build] = size
            await hint(connection, CHANNEL)
        self._tell()
        return sizes

    async def _append(self, connection: AsyncConnection, addition: Appended) -> int | None:
        assert addition.content.endswith(b"\n"), "half a record"
        table, now = environment_log, database_time(self._database)
        if addition.begins:
            statement = self._database.insert(table).values(build=addition.build, written=now).on_conflict_do_nothing()
            await connection.execute(statement)
        # the row stays locked, so two writers of a log append one after the other
        grown = (
            update(table)
            .where(table.c.build == addition.build, ~table.c.ended)
            .values(size=table.c.size + len(addition.content), written=now)
            .returning(table.c.size)
        )
        size: int | None = (await connection.execute(grown)).scalar()
        if size is None:
            return None
        position = size - len(addition.content)
        row = {"build": addition.build, "position": position, "content": addition.content}
        await connection.execute(environment_log_piece.insert(), row)
        return size

    async def find_all(self, builds: Collection[int]) -> dict[int, LogState]:
        """The states of logs; those that are not there are left out."""
        table, found = environment_log, dict[int, LogState]()
        async with self._database.reading() as connection:
            for batch in batches(sorted(builds)):
                query = select(table.c.build, table.c.size, table.c.ended).where(table.c.build.in_(batch))
                rows = await connection.execute(query)
                found |= {row.build: LogState(row.size, bool(row.ended)) for row in rows}
        return found

    async def find(self, build: int) -> LogState | None:
        return (await self.find_all([build])).get(build)

    async def read(self, build: int, start: int, stop: int | None = None) -> Page:
        """The first whole records from `start` on, at most a page of them and none that ends after `stop`.

        A `start` within a record means the next one. The page is empty if there are none, or if there is no log.
        """
        limit = PAGE if stop is None else min(PAGE, stop - start)
        # with the byte before: it tells whether a record begins at `start`
        first = max(start - 1, 0)
        raw = await self._read_bytes(build, first, start + limit) if limit > 0 else b""
        begin = 0 if start == 0 else raw.find(b"\n") + 1
        end = raw.rfind(b"\n") + 1
        return Page(first + begin, raw[begin:end]) if end > 0 and begin < end else Page(start, b"")

    async def _read_bytes(self, build: int, start: int, stop: int) -> bytes:
        table, piece = environment_log, environment_log_piece
        this = piece.c.build == build
        holding = select(func.max(piece.c.position)).where(this, piece.c.position <= start).scalar_subquery()
        pieces = (
            select(piece.c.position, piece.c.content)
            .where(this, piece.c.position >= holding, piece.c.position < stop)
            .order_by(piece.c.position)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(pieces)).all()
            # asked second: what has no pieces any more has its digest by now
            digest = (await connection.execute(select(table.c.digest).where(table.c.build == build))).scalar()
        if rows:
            whole = b"".join(row.content for row in rows)
            return whole[start - rows[0].position : stop - rows[0].position]
        return await self._read_blob(Digest(digest), start, stop) if digest else b""

    async def _read_blob(self, digest: Digest, start: int, stop: int) -> bytes:
        blob = await self._blobs.find(digest)
        stop = min(stop, blob.size)
        if start >= stop:
            return b""
        try:
            return await asyncio.to_thread(lambda: b"".join(self._read_segments(blob, start, stop)))
        except (OSError, EOFError) as error:
            raise StorageUnavailable(f"the log of a build in blob {digest}", str(error)) from error

    def _read_segments(self, blob: StoredBlob, start: int, stop: int) -> Iterator[bytes]:
        for segment in self._blobs.segments(blob, start, stop):
            yield from read_segment(segment)

    async def finish(self, build: int) -> None:
        """End a log: it gets no more, and is kept as a blob. May be repeated, by several processes at once."""
        table = environment_log
        ended = update(table).where(table.c.build == build).values(ended=true()).returning(table.c.size, table.c.digest)
        async with self._database.writing() as connection:
            row = (await connection.execute(ended)).first()
            await hint(connection, CHANNEL)
        self._tell()
        if row is not None and row.size and row.digest is None:
            await self._keep(build, row.size)

    async def _keep(self, build: int, size: int) -> None:
        """Make a blob of the pieces of a log that has ended."""
        table, piece = environment_log, environment_log_piece
        digest = await self._hash_pieces(build)
        try:
            await self._blobs.put(digest, self._pull_pieces(build, asyncio.get_running_loop()))
        except DigestMismatch:
            if await self._is_kept_or_gone(build):
                return
            raise
        async with self._database.writing() as connection:
            this = (table.c.build == build, table.c.size == size, table.c.digest.is_(None))
            locked = await connection.execute(select(table.c.build).where(*this).with_for_update())
            # another process may have read the pieces while the first one deleted them
            held = await self._sum_pieces(connection, build)
            if locked.first() is None or held != size:
                return
            if not await need_rows(connection, [digest]):
                raise BlobUnknown(digest)
            await connection.execute(update(table).where(*this).values(digest=digest))
            await connection.execute(delete(piece).where(piece.c.build == build))

    async def _sum_pieces(self, connection: AsyncConnection, build: int) -> int:
        piece = environment_log_piece
        query = select(func.coalesce(func.sum(func.length(piece.c.content)), 0)).where(piece.c.build == build)
        return int((await connection.execute(query)).scalar_one())

    async def _is_kept_or_gone(self, build: int) -> bool:
        table = environment_log
        async with self._database.reading() as connection:
            row = (await connection.execute(select(table.c.digest).where(table.c.build == build))).first()
        return row is None or row.digest is not None

    async def _hash_pieces(self, build: int) -> Digest:
        hasher, start = new_hasher("sha256"), 0
        while content := await self._read_some(build, start):
            hasher.update(content)
            start += len(content)
        return Digest.of_hasher(hasher)

    async def _read_some(self, build: int, start: int) -> bytes:
        """At least one whole piece from `start` on; empty after the last."""
        piece = environment_log_piece
        these = (piece.c.build == build, piece.c.position >= start, piece.c.position < start + PAGE)
        query = select(piece.c.content).where(*these).order_by(piece.c.position)
        async with self._database.reading() as connection:
            return b"".join((await connection.execute(query)).scalars())

    def _pull_pieces(self, build: int, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
        """All pieces, for a thread, while `loop` runs in another."""
        start = 0
        while content := asyncio.run_coroutine_threadsafe(self._read_some(build, start), loop).result():
            yield content
            start += len(content)

    async def settle(self) -> int:
        """Keep what has ended and is not kept yet, end what has no writer any more; return how many there were."""
        table, now = environment_log, database_time(self._database)
        abandoned = or_(table.c.written < now - ABANDONED_SECONDS, table.c.written > now + ABANDONED_SECONDS)
        left = or_(and_(table.c.ended, table.c.size > 0), and_(~table.c.ended, abandoned))
        query = select(table.c.build).where(table.c.digest.is_(None), left)
        async with self._database.reading() as connection:
            builds = list((await connection.execute(query)).scalars())
        for build in builds:
            try:
                await self.finish(build)
            except StorageError as error:
                log.warning("the log of a build cannot be kept as a blob", build=build, reason=str(error))
        return len(builds)

    async def delete(self, build: int) -> None:
        """Delete a log; the garbage collection deletes its blob. Whoever still writes it does so for nothing."""
        async with self._database.writing() as connection:
            await connection.execute(delete(environment_log).where(environment_log.c.build == build))
            await hint(connection, CHANNEL)
        self._tell()

    async def hear(self, tell: Callable[[], None]) -> NoReturn:
        """Call `tell` after any log has grown or ended, until the task is cancelled. Some calls are for nothing."""
        self._hearers.add(tell)
        try:
            await hear(self._database, CHANNEL, tell)
        finally:
            self._hearers.discard(tell)

    def _tell(self) -> None:
        for tell in self._hearers:
            tell()


async def put_kept(database: Database, connection: AsyncConnection, logs: Mapping[int, tuple[Digest, int]]) -> None:
    """Record the logs of builds that have ended elsewhere: by the build, the blob with all of it and its bytes.

    Raises BlobUnknown if a blob is not there.
    """
    digests = sorted({digest for digest, _ in logs.values()})
    for some in batches(digests):
        there = await need_rows(connection, some)
        if len(there) < len(some):
            raise BlobUnknown(next(each for each in some if each not in there))
    now = database_time(database)
    for build, (digest, size) in logs.items():
        values = {"build": build, "size": size, "ended": true(), "written": now, "digest": digest}
        await connection.execute(environment_log.insert().values(**values))
