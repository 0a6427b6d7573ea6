"""Searches for packages in the channels that the settings name."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from builder.channels.channel import resolve_address
from builder.errors import SearchUnavailable
from builder.search.indexes import FreshIndex, Indexes
from builder.search.package import FoundPackage, SearchedChannel
from builder.search.question import Question
from builder.search.results import MOST_CHANNELS, Results
from storage.cancellation import to_end

log = structlog.get_logger(__name__)

T = TypeVar("T")

_THREADS = 2
"""Searches that run at a time. A search takes some milliseconds of a core."""
_SECONDS = 10.0
"""For one search, or for one piece of its results."""
MOST_OPEN = 32
"""Searches whose results are being sent."""


@dataclass(frozen=True)
class ListedChannel:
    """`last_update` is when its list of packages was last read, in seconds; None if never."""

    channel: SearchedChannel
    last_update: float | None


@dataclass(frozen=True)
class Found:
    """`channels` are those that were searched, in the order of their numbers; `problems` by a channel's name."""

    _results: Results
    channels: tuple[ListedChannel, ...]
    problems: Mapping[str, str]
    _run: Callable[[Callable[[], Any]], Awaitable[Any]]

    @property
    def count(self) -> int:
        return self._results.count

    async def read_page(self, begin: int, size: int, write: Callable[[FoundPackage], T]) -> list[T]:
        """Packages from number `begin` on, counted from 0, each written in a thread. Raises SearchLimit."""
        page: list[T] = await self._run(lambda: [write(each) for each in self._results.read_page(begin, size)])
        return page

    async def read_all(self, size: int, write: Callable[[list[FoundPackage]], T]) -> AsyncIterator[T]:
        """All packages, some at a time, written in a thread. Raises SearchLimit."""
        everything = map(write, self._results.read_all(size))
        while (piece := await self._run(lambda: next(everything, None))) is not None:
            yield piece


class PackageSearch:
    """`channels` are all that may be searched, of which one search takes at most MOST_CHANNELS.

    `alias` is where channels are found by name.
    """

    def __init__(self, channels: Sequence[SearchedChannel], alias: str, indexes: Indexes) -> None:
        self.channels = tuple(sorted(channels, key=lambda each: each.name))
        self._alias = alias
        self._indexes = indexes
        self._threads = ThreadPoolExecutor(_THREADS, "search")
        self._open = asyncio.Semaphore(MOST_OPEN)
        self._is_first = True

    async def close(self) -> None:
        await self._indexes.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def find_channel(self, text: str) -> SearchedChannel | None:
        """The channel with this name or address; None if it is not searched. Raises ChannelUnavailable."""
        url = resolve_address(text, self._alias)
        return next((each for each in self.channels if text == each.name or url == each.url), None)

    async def list_channels(self) -> Sequence[ListedChannel]:
        times = await self._indexes.list_times(self.channels)
        return [ListedChannel(channel, time) for channel, time in zip(self.channels, times, strict=True)]

    @contextlib.asynccontextmanager
    async def find(self, question: Question, channels: Sequence[SearchedChannel] = ()) -> AsyncIterator[Found]:
        """What is found in `channels`, or in all of them. Raises SearchUnavailable, SearchLimit."""
        if self._is_first:
            self._is_first = False
            await asyncio.to_thread(self._indexes.remove_others, self.channels)
        wanted = sorted(channels, key=lambda each: each.name) or self.channels
        problems = {each.name: f"not searched: at most {MOST_CHANNELS} at a time" for each in wanted[MOST_CHANNELS:]}
        indexes = await self._indexes.find(wanted[:MOST_CHANNELS])
        problems |= self._list_problems(wanted[:MOST_CHANNELS], indexes)
        present = [each for each in wanted[:MOST_CHANNELS] if each.url in indexes]
        async with self._open:
            paths = [indexes[each.url].path for each in present]
            opening = asyncio.ensure_future(self._run(partial(self._open_results, paths, question)))
            try:
                results = await to_end(opening)
                listed = tuple(ListedChannel(each, indexes[each.url].made) for each in present)
                yield Found(results, listed, problems, self._run)
            finally:
                # after what still runs in a thread: whoever waited for it may have been cancelled
                if not opening.cancelled() and opening.exception() is None:
                    await to_end(self._run(opening.result().close))

    def _open_results(self, paths: Sequence[Path], question: Question) -> Results:
        try:
            return Results(paths, question, _SECONDS)
        except sqlite3.DatabaseError as error:
            log.warning("an index of packages cannot be read; it is made anew", reason=str(error))
            for path in paths:
                path.unlink(missing_ok=True)
            raise SearchUnavailable({"all channels": "their lists cannot be read and are made anew"}) from None

    def _list_problems(self, wanted: Sequence[SearchedChannel], indexes: Mapping[str, FreshIndex]) -> dict[str, str]:
        problems = {}
        for channel in wanted:
            index = indexes.get(channel.url)
            if index is None:
                problems[channel.name] = self._indexes.describe_lack(channel)
            elif index.problem:
                moment = datetime.fromtimestamp(index.made, UTC).isoformat(timespec="seconds")
                problems[channel.name] = f"its packages are those of {moment}; {index.problem}"
        return problems

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)
