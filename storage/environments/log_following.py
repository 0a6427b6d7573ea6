"""Follows logs as they grow: one look at the database for all readers of a process, however many there are.

What a log has just got is read once and stays in memory for a moment, a bounded amount a log. A reader has a position
and no queue: one that is slow, or begins at the start, reads the database by itself until it has caught up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator

import structlog

from storage.background import in_background
from storage.environments.logs import PAGE, Logs, LogState, Page
from storage.errors import ConderyError, StorageError

LOOK_SECONDS = 1.0
"""Between two looks at most: hints are lost while the database's connection is down."""
PAUSE_SECONDS = 0.1
"""Between two looks at least: what comes meanwhile is read and sent at once."""
BEHIND_SECONDS = 0.02
"""Likewise, if more has come than is read at a look, or comes already."""
MOST_KEPT = PAGE
"""Bytes of the end of a log that stay in memory while it is followed."""
RETRY_SECONDS = 0.5

log = structlog.get_logger(__name__)


class _Followed:
    """A log with readers."""

    def __init__(self) -> None:
        self.readers = 0
        self.state: LogState | None = None
        """As last seen; None before that, and for a log that is not there."""
        self.was_there = False
        self.stop = 0
        """How far readers may read."""
        self.changed = asyncio.Event()
        self._kept: deque[Page] = deque()
        """What it got last, without a gap up to `stop`."""

    @property
    def is_over(self) -> bool:
        """Whether it gets nothing beyond `stop`."""
        if self.state is None:
            return self.was_there
        return self.state.ended and self.stop >= self.state.size

    @property
    def start_of_kept(self) -> int:
        return self._kept[0].position if self._kept else self.stop

    def note(self, state: LogState | None) -> None:
        if state is not None and not self.was_there:
            # what is there already is read by whoever wants it
            self.stop = state.size
            self.was_there = True
        self.state = state

    def add(self, page: Page) -> None:
        self._kept.append(page)
        self.stop = page.stop
        while len(self._kept) > 1 and self.stop - self._kept[0].position > MOST_KEPT:
            self._kept.popleft()

    def skip(self, stop: int) -> None:
        self._kept.clear()
        self.stop = stop

    def find(self, position: int) -> Page | None:
        """What is kept from `position` on, or from the next record; None if that is not kept."""
        for page in self._kept:
            if page.position == position:
                return page
            if page.position < position < page.stop:
                begin = page.content.index(b"\n", position - 1 - page.position) + 1
                return Page(page.position + begin, page.content[begin:])
        return None

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class LogReader:
    """Reads a log from `position` on, which may be anywhere, and waits for more. It belongs to one task."""

    def __init__(self, logs: Logs, followed: _Followed, build: int, position: int) -> None:
        self._logs = logs
        self._followed = followed
        self._build = build
        self.position = position

    @property
    def is_over(self) -> bool:
        """Whether everything has been read, and nothing will follow."""
        return self._followed.is_over and self.position >= self._followed.stop

    async def next(self, seconds: float) -> Page | None:
        """The next records; None if none come within so many seconds, or none will. Database or no database."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._next()
        return None

    async def _next(self) -> Page | None:
        while True:
            changed = self._followed.changed
            if self._followed.was_there:
                # a client may name any position
                self.position = min(self.position, self._followed.stop)
                if self.position < self._followed.stop:
                    if (page := await self._read()) is not None:
                        return page
                    continue
            if self.is_over:
                return None
            await changed.wait()

    async def _read(self) -> Page | None:
        """The records from `position` on; None if there are none after all, or the database does not say."""
        followed = self._followed
        if (page := followed.find(self.position)) is not None:
            self.position = page.stop
            return page if page.content else None
        kept = followed.start_of_kept
        stop = kept if self.position < kept else followed.stop
        try:
            page = await self._logs.read(self._build, self.position, min(stop, self.position + PAGE))
        except StorageError as error:
            log.warning("the log of a build cannot be read now", build=self._build, reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
            return None
        # without records it has just been deleted or is damaged, or the rest of it is in memory
        self.position = page.stop if page.content else stop
        return page if page.content else None


class LogFollowing:
    """Everything that this process follows. It works only while somebody reads."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self._followed: dict[int, _Followed] = {}
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def reading(self, build: int, position: int = 0) -> Iterator[LogReader]:
        """Follow a log, which need not be there yet, while the block runs."""
        followed = self._followed.setdefault(build, _Followed())
        followed.readers += 1
        # it may have changed since it was looked at
        self._heard.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            yield LogReader(self.logs, followed, build, position)
        finally:
            followed.readers -= 1
            if not followed.readers:
                del self._followed[build]

    async def aclose(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        # somebody may arrive while the background task ends
        while self._followed:
            async with in_background(self.logs.hear(self._heard.set)):
                await self._look_repeatedly()

    async def _look_repeatedly(self) -> None:
        while self._followed:
            self._heard.clear()
            try:
                await self._look()
            except ConderyError as error:
                log.warning("the logs of builds cannot be followed now", reason=str(error))
            except Exception:
                # without the look everybody would wait for ever
                log.exception("the logs of builds cannot be followed now")
            await asyncio.sleep(BEHIND_SECONDS if self._heard.is_set() else PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._heard.wait()

    async def _look(self) -> None:
        asked = dict(self._followed)
        states = await self.logs.find_all(asked)
        for build, followed in asked.items():
            if await self._look_at(build, followed, states.get(build)):
                followed.tell()

    async def _look_at(self, build: int, followed: _Followed, state: LogState | None) -> bool:
        """Note what has happened to a log; return whether anything has."""
        is_new = state != followed.state or state is None
        followed.note(state)
        if state is None or followed.stop >= state.size:
            return is_new
        page = await self.logs.read(build, followed.stop, min(state.size, followed.stop + PAGE))
        if page.content:
            followed.add(page)
        else:
            # a log whose blob was damaged and is gone has nothing more, whatever its size was
            followed.skip(state.size)
        if followed.stop < state.size:
            self._heard.set()
        return True
