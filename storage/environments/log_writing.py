"""Writes the logs of all builds of one process, many records in one transaction, and never makes a build wait or fail.

What was said is on its way to the database for a fifth of a second at most while the database is available, so that
much is lost if the process dies. While the database is not available, a bounded amount waits in memory, and the log
says how much was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from itertools import accumulate, islice, takewhile

import structlog

from storage.database.write_line import standing_behind
from storage.environments.log_record import Data, write_records
from storage.environments.logs import Appended, Logs
from storage.errors import StorageError

FLUSH_SECONDS = 0.2
RETRY_SECONDS = 1.0
SOON = 32 << 10
"""Bytes of a log that are written at once."""
MOST_IN_PIECE = 256 << 10
MOST_WAITING = 4 << 20
"""Bytes of a log that wait in memory for the database."""
MOST_BYTES = 64 << 20
"""Bytes of a whole log."""
RESERVE = 1 << 20
"""Bytes beyond that for what happens to the build itself."""
PATIENCE = 10.0
"""Seconds that somebody waits for the database."""

CUT = "cut"
LOST = "lost"
BULK = frozenset({"line", "progress"})
"""The kinds of records of which there may be any number."""

log = structlog.get_logger(__name__)


class LogWriter:
    """Writes the log of one build. Only `LogWriters` makes them."""

    def __init__(self, build: int, more: asyncio.Event, soon: asyncio.Event, most: int) -> None:
        self.build = build
        self._more = more
        self._soon = soon
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._stored: int | None = None
        """Bytes of the log in the database, as of the last time that something was appended."""
        self._taken = 0
        """Records that are on their way there."""
        self._lost = 0
        self._is_cut = False
        self._is_over = False
        """Whether the log takes no more: it has ended, or is deleted, or another process writes it."""
        self._is_stuck = False
        """Whether the database did not take what it was given last."""
        self._moved = asyncio.Event()
        """Set each time that records have been appended, or could not be."""

    def write(self, kind: str, text: str, data: Data | None = None) -> None:
        """Say something, now. Never waits and never fails; lines of `text` beyond the first are mere lines."""
        for number, record in enumerate(write_records(kind, text, data)):
            self._put(record, is_bulk=number > 0 or kind in BULK)

    def _put(self, record: bytes, *, is_bulk: bool) -> None:
        if self._is_over:
            return
        if self._waiting_bytes + len(record) > MOST_WAITING + (0 if is_bulk else RESERVE):
            self._lost += 1
            return
        self._note_lost()
        if (self._stored or 0) + self._waiting_bytes + len(record) > self._most + (0 if is_bulk else RESERVE):
            if not self._is_cut:
                self._is_cut = True
                text = f"the rest of this log is left out: a log has at most {self._most:,} bytes"
                self._add(b"".join(write_records(CUT, text, {"most": self._most})))
            return
        self._add(record)

    def _note_lost(self) -> None:
        if self._lost:
            text = f"{self._lost:,} lines are missing here: the database did not take them in time"
            self._add(b"".join(write_records(LOST, text, {"lines": self._lost})))
            self._lost = 0

    def _add(self, record: bytes) -> None:
        self._waiting.append(record)
        self._waiting_bytes += len(record)
        self._more.set()
        if self._waiting_bytes >= SOON:
            self._soon.set()

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    async def make_room(self) -> None:
        """Wait while much waits for a database that takes it, for whoever writes faster than that."""
        while self._waiting_bytes >= MOST_WAITING // 4 and not self._is_stuck:
            await self._moved.wait()

    async def flush(self) -> None:
        """Wait until everything written so far is in the database. At most PATIENCE seconds."""
        self._note_lost()
        self._soon.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._waiting:
                    await self._moved.wait()

    def stop(self) -> None:
        """Write nothing more."""
        self._is_over = True
        self._waiting.clear()
        self._waiting_bytes = self._taken = 0
        self._move()

    def take(self) -> Appended | None:
        """What is to be appended next; the same again until `note_stored`. None if nothing waits."""
        if not self._waiting:
            return None
        if not self._taken:
            sizes = accumulate(map(len, self._waiting))
            self._taken = max(sum(1 for _ in takewhile(lambda size: size <= MOST_IN_PIECE, sizes)), 1)
        content = b"".join(islice(self._waiting, self._taken))
        return Appended(self.build, content, begins=self._stored is None)

    def note_stored(self, size: int | None) -> None:
        """What was taken is in the database, and the log has `size` bytes; None if it takes no more."""
        for _ in range(self._taken):
            self._waiting_bytes -= len(self._waiting.popleft())
        self._taken = 0
        self._stored = size
        self._is_stuck = False
        if size is None:
            self.stop()
        self._move()

    def note_stuck(self) -> None:
        """What was taken is not in the database."""
        self._is_stuck = True
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def was_stored(self, size: int | None, content: bytes) -> bool:
        """Whether an append whose end is unknown succeeded after all, by the size of the log now."""
        return size is not None and size == (self._stored or 0) + len(content)


class LogWriters:
    """The writers of one process. `close` it before the database."""

    def __init__(self, logs: Logs, *, most: int = MOST_BYTES) -> None:
        self._logs = logs
        self._most = most
        self._writers: dict[int, LogWriter] = {}
        self._more = asyncio.Event()
        self._soon = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._is_unsure = False
        """Whether the last transaction failed, perhaps after its commit."""

    def open(self, build: int) -> LogWriter:
        """Begin a build's log, or continue it after whoever wrote it before."""
        writer = self._writers[build] = LogWriter(build, self._more, self._soon, self._most)
        if self._task is None:
            # in a context of its own: it writes for no build in particular
            self._task = asyncio.create_task(self._write_behind(), context=contextvars.Context())
        return writer

    async def end(self, writer: LogWriter) -> None:
        """End a log. Never fails: what cannot be kept as a blob now is kept later."""
        await self.release(writer)
        try:
            await self._logs.finish(writer.build)
        except StorageError as error:
            log.warning("the log of a build is not kept as a blob yet", build=writer.build, reason=str(error))

    def end_soon(self, writer: LogWriter) -> None:
        """End a log, and let nobody wait for it."""
        task = asyncio.create_task(self.end(writer), context=contextvars.Context())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def release(self, writer: LogWriter) -> None:
        """Write what is left of a log that another process will continue."""
        await writer.flush()
        if self._writers.get(writer.build) is writer:
            del self._writers[writer.build]
        writer.stop()

    async def close(self) -> None:
        """Write what is left, and stop."""
        await asyncio.gather(*self._ending)
        await asyncio.gather(*(writer.flush() for writer in self._writers.values()))
        self._writers.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _write_behind(self) -> None:
        # a log can wait for everything that is no log
        with standing_behind(lambda: True):
            await self._write_always()

    async def _write_always(self) -> None:
        while True:
            await self._more.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._soon.wait()
            self._more.clear()
            self._soon.clear()
            await self._write_waiting()

    async def _write_waiting(self) -> None:
        while waiting := [writer for writer in self._writers.values() if writer.is_waiting]:
            try:
                await self._write(waiting)
            except StorageError as error:
                log.warning("the logs of builds cannot be written now", builds=len(waiting), reason=str(error))
                self._note_stuck(waiting)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("the logs of builds cannot be written", builds=[writer.build for writer in waiting])
                await self._write_each(waiting)

    async def _write_each(self, waiting: list[LogWriter]) -> None:
        """Write each log by itself, and leave out what cannot be written: it would fail again each time."""
        for writer in waiting:
            try:
                await self._write([writer])
            except StorageError:
                self._note_stuck([writer])
            except Exception:
                log.exception("a part of the log of a build is left out", build=writer.build)
                writer.note_stored(None)

    def _note_stuck(self, writers: list[LogWriter]) -> None:
        self._is_unsure = True
        for writer in writers:
            writer.note_stuck()

    async def _write(self, writers: list[LogWriter]) -> None:
        if self._is_unsure:
            writers = await self._forget_stored(writers)
        taken = {writer.build: (writer, addition) for writer in writers if (addition := writer.take())}
        sizes = await self._logs.append([addition for _, addition in taken.values()]) if taken else {}
        for build, (writer, _) in taken.items():
            writer.note_stored(sizes.get(build))

    async def _forget_stored(self, writers: list[LogWriter]) -> list[LogWriter]:
        """Those of `writers` whose last append failed for certain."""
        states = await self._logs.find_all([writer.build for writer in writers])
        self._is_unsure = False
        failed = []
        for writer in writers:
            state, addition = states.get(writer.build), writer.take()
            if addition is not None and state and writer.was_stored(state.size, addition.content):
                writer.note_stored(state.size)
            else:
                failed.append(writer)
        return failed
