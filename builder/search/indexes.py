"""The indexes of channels on disk, and how they stay fresh.

An index that is too old is still searched while the next one is made, and if that fails, until it succeeds: who looks
for a package should not have to wait because a channel is slow, or is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog

from builder.errors import BuilderError, SearchPreparing, SearchUnavailable
from builder.search.index_file import SUFFIX, Written
from builder.search.package import SearchedChannel
from storage.errors import ConderyError

log = structlog.get_logger(__name__)

LISTING_SECONDS = 1800.0
"""For reading a channel and writing its index. conda-forge takes half a minute."""
WAIT_SECONDS = 20.0
"""How long a search waits for an index that is made for the first time. Clients wait longer than that."""
_FAILURE_SECONDS = 60.0
"""For which a channel that could not be read is not read again."""
_POLL = 0.5
"""Seconds between two looks at whether another process has made an index."""

PREPARING = "its packages are being listed; ask again soon"

MakeIndex = Callable[[str, Path, float], Awaitable[Written]]
"""Writes the index of the packages of a channel, given by name, to a path, within some seconds. It leaves alone, but
touches, an index that is as the channel is. Raises BuilderError, StorageError."""


@dataclass(frozen=True)
class FreshIndex:
    """`made` is when the channel was last found to be as the index has it, in seconds; `problem` is why it was not
    since."""

    path: Path
    made: float
    problem: str = ""


@dataclass
class _State:
    """What this process knows of one channel's index."""

    making: asyncio.Task[None] | None = None
    problem: str = ""
    """Why the last try failed; empty if it did not."""
    failed: float = 0.0
    stamp: object = None
    """What a local channel looked like when its index was last made."""


@dataclass
class Indexes:
    """`refresh` is the age in seconds at which an index is made anew."""

    folder: Path
    make: MakeIndex
    refresh: float
    _states: dict[str, _State] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of several channels, one is read at a time: each takes a core and some hundred megabytes."""

    async def close(self) -> None:
        """Nobody may search any more."""
        tasks = [state.making for state in self._states.values() if state.making]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def remove_others(self, channels: Sequence[SearchedChannel]) -> None:
        """Remove the indexes of channels that are not searched any more."""
        kept = {channel.key for channel in channels}
        for path in self.folder.glob(f"*{SUFFIX}"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)

    async def find(self, channels: Sequence[SearchedChannel]) -> Mapping[str, FreshIndex]:
        """The index of each channel that has one, by URL. Raises SearchUnavailable if none of them has."""
        looks = await asyncio.to_thread(self._look_all, channels)
        waiting = []
        for channel, (made, stamp) in zip(channels, looks, strict=True):
            if self._is_due(channel, made, stamp):
                self._begin(channel, stamp)
            making = self._state(channel).making
            if made is None and making is not None:
                waiting.append(making)
        if waiting:
            await asyncio.wait(waiting, timeout=WAIT_SECONDS)
            looks = await asyncio.to_thread(self._look_all, channels)
        found = {
            channel.url: FreshIndex(self._path(channel), made, self._state(channel).problem)
            for channel, (made, _) in zip(channels, looks, strict=True)
            if made is not None
        }
        if not found:
            self._refuse(channels)
        return found

    def describe_lack(self, channel: SearchedChannel) -> str:
        """Why a channel has no index."""
        state = self._state(channel)
        return PREPARING if state.making else state.problem or "its packages are not listed yet"

    async def list_times(self, channels: Sequence[SearchedChannel]) -> Sequence[float | None]:
        """When each channel was last read, in seconds; nothing is begun."""
        return [made for made, _ in await asyncio.to_thread(self._look_all, channels)]

    def _refuse(self, channels: Sequence[SearchedChannel]) -> None:
        reasons = {channel.name: self.describe_lack(channel) for channel in channels}
        raise (SearchPreparing if PREPARING in reasons.values() else SearchUnavailable)(reasons)

    def _state(self, channel: SearchedChannel) -> _State:
        return self._states.setdefault(channel.url, _State())

    def _path(self, channel: SearchedChannel) -> Path:
        return self.folder / f"{channel.key}{SUFFIX}"

    def _look_all(self, channels: Sequence[SearchedChannel]) -> list[tuple[float | None, object]]:
        return [self._look(channel) for channel in channels]

    def _look(self, channel: SearchedChannel) -> tuple[float | None, object]:
        """When the index was last made or confirmed, and what a local channel looks like."""
        made: float | None = None
        with contextlib.suppress(OSError):
            made = self._path(channel).stat().st_mtime
        return made, _read_stamp(channel)

    def _is_due(self, channel: SearchedChannel, made: float | None, stamp: object) -> bool:
        state = self._state(channel)
        if state.making:
            return False
        if state.problem and time.monotonic() - state.failed < _FAILURE_SECONDS and stamp == state.stamp:
            return False
        # a clock that was set back must not keep an index for ever
        return made is None or stamp != state.stamp or not 0 <= time.time() - made < self.refresh

    def _begin(self, channel: SearchedChannel, stamp: object) -> None:
        state = self._state(channel)
        state.making = asyncio.create_task(self._make(channel, stamp))

    async def _make(self, channel: SearchedChannel, stamp: object) -> None:
        """Let the index be made, by one process of all that have this folder."""
        state = self._state(channel)
        try:
            async with self._turn:
                await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
                await self._make_alone(channel)
            state.problem = ""
        except ConderyError as error:
            state.problem, state.failed = _describe(error), time.monotonic()
            log.warning("packages of a channel not listed", channel=channel.name, reason=state.problem)
        except OSError as error:
            state.problem, state.failed = error.strerror or str(error), time.monotonic()
            log.warning("packages of a channel not listed", channel=channel.name, reason=state.problem)
        finally:
            state.stamp = stamp
            state.making = None

    async def _make_alone(self, channel: SearchedChannel) -> None:
        path = self._path(channel)
        before, _ = await asyncio.to_thread(self._look, channel)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            waited = False
            while not _take(lock):
                waited = True
                await asyncio.sleep(_POLL)
            after, _ = await asyncio.to_thread(self._look, channel)
            if waited and after is not None and after != before:
                return
            await self.make(channel.name, path, LISTING_SECONDS)
        finally:
            os.close(lock)


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe(error: ConderyError) -> str:
    reason = getattr(error, "reason", None)
    return reason if isinstance(error, BuilderError) and isinstance(reason, str) else str(error)


def _read_stamp(channel: SearchedChannel) -> object:
    """A value that changes whenever the repodata of a channel in a directory is rewritten; None for others."""
    parts = urlsplit(channel.url)
    if parts.scheme != "file":
        return None
    return tuple(sorted(_list_times(Path(unquote(parts.path)))))


def _list_times(directory: Path) -> Iterator[tuple[str, int]]:
    for path in directory.glob("*/repodata.json*"):
        with contextlib.suppress(OSError):
            yield str(path), path.stat().st_mtime_ns
