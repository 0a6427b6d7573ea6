"""Waits for builds by their rows, whoever works on them: one query for all that somebody in this process waits for.

The watcher looks when it hears that builds changed (`storage.events.hints`), and also every LOOK_SECONDS: nothing tells
it that a build's owner died, and hints are lost while the database's connection is down.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from storage.background import in_background
from storage.catalog.builds import BuildRow, Builds
from storage.errors import ConderyError, ServerStopping

LOOK_SECONDS = 1.0
PAUSE_SECONDS = 0.02
"""Between two queries, however many waiters arrive and however many hints come."""

IsOver = Callable[[BuildRow], bool]

log = structlog.get_logger(__name__)


class Watcher:
    """The watcher of one process. It works only while somebody waits."""

    def __init__(self, builds: Builds) -> None:
        self._builds = builds
        self._waiting: dict[asyncio.Future[BuildRow | None], tuple[str, IsOver]] = {}
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def check_open(self) -> None:
        """Raises ServerStopping if the watcher is closed."""
        if self._closed:
            raise ServerStopping

    async def until(self, row: BuildRow, is_over: IsOver) -> BuildRow | None:
        """Wait until `is_over` holds for a build, whose row was last read as `row`.

        Returns its row, or None if it was deleted. Goes on waiting while the database is unavailable. Raises
        ServerStopping when the watcher is closed.
        """
        self.check_open()
        if is_over(row):
            return row
        end: asyncio.Future[BuildRow | None] = asyncio.get_running_loop().create_future()
        self._waiting[end] = (row.id, is_over)
        # the row may have changed since it was read, and the hint may have come already
        self._heard.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            return await end
        finally:
            del self._waiting[end]

    async def close(self) -> None:
        self._closed = True
        for end in self._waiting:
            if not end.done():
                end.set_exception(ServerStopping())
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        # somebody may arrive while the background task ends
        while self._waiting:
            async with in_background(self._builds.hear(self._heard.set)):
                await self._look_repeatedly()

    async def _look_repeatedly(self) -> None:
        while self._waiting:
            self._heard.clear()
            await self._look()
            await asyncio.sleep(PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._heard.wait()

    async def _look(self) -> None:
        asked = dict(self._waiting)
        try:
            rows = await self._builds.find_all({build_id for build_id, _ in asked.values()})
        except ConderyError as error:
            log.warning("cannot look at other processes' builds", reason=str(error))
            return
        except Exception:
            # without the watcher everybody would wait forever
            log.exception("cannot look at other processes' builds")
            return
        for end, (build_id, is_over) in asked.items():
            row = rows.get(build_id)
            if not end.done() and (row is None or is_over(row)):
                end.set_result(row)
