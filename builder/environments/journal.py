"""Says in the log of an environment's build what happens to it, for whoever reads that now or later.

A journal is a Progress, and keeps what it is told short: the beginning and the end of each stage, progress every few
seconds, and what the build waits for and how long, if nothing else happens. It never waits for the database, and never
fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import structlog

from builder.progress import Event
from builder.work.claims import Claim, Wait
from storage.background import in_background
from storage.environments.log_record import LINE, Data
from storage.environments.log_writing import LogWriter, LogWriters

PROGRESS_SECONDS = 2.0
"""Between two records of progress of one stage."""
LOOK_SECONDS = 1.0
"""Between two looks at what the build waits for."""
PATIENCE = 3.0
"""Seconds that a build waits before its log says so."""
AGAIN = (15.0, 60.0)
"""How many seconds of waiting later the log says it again; the last one repeats itself."""

STATE = "state"
STAGE = "stage"
PROGRESS = "progress"
WAITING = "waiting"
RESUMED = "resumed"

BEGUN = "begun"
ENDED = "ended"
BROKEN_OFF = "broken off"

_WORDS = {
    "solve": "solving",
    "download": "downloading packages",
    "inspect": "reading packages",
    "layers": "making layers",
    "image": "writing the image",
}

log = structlog.get_logger(__name__)


@dataclass
class _Stage:
    begun: float
    told: float
    """When it began and when it last said something, by time.monotonic."""
    last: Event


@dataclass
class _Waiting:
    """A wait that the log has told of."""

    wait: Wait
    told: float
    times: int = 1


class Journal:
    """The journal of one build in this process. It belongs to the event loop."""

    def __init__(self, writer: LogWriter, claim: Claim | None = None) -> None:
        """`claim` is that of the build's work, and tells what it waits for."""
        self._writer = writer
        self._claim = claim
        self.is_over = False
        """Whether the build has ended."""
        self._stages: dict[str, _Stage] = {}
        self._happened = time.monotonic()
        """When anything but waiting was last told."""
        self._waiting: _Waiting | None = None

    def __call__(self, event: Event) -> None:
        """Note progress; a `builder.progress.Progress`."""
        with _never_failing():
            self._note(event)

    def say(self, text: str) -> None:
        """Write mere lines, such as a tool's output."""
        with _never_failing():
            self._writer.write(LINE, text)

    def tell(self, kind: str, text: str, data: Data | None = None) -> None:
        """Write an event of any other kind."""
        with _never_failing():
            self._writer.write(kind, text, data)

    def change_state(self, status: str, text: str = "", data: Data | None = None) -> None:
        """Note that the build is QUEUED, BUILDING, COMPLETED, FAILED or CANCELED now; `text` may say why."""
        with _never_failing():
            self._end_waiting()
            if status not in ("QUEUED", "BUILDING"):
                self.is_over = True
                self._end_stages(BROKEN_OFF)
            self._writer.write(STATE, f"{status}: {text}" if text else status, {"status": status, **(data or {})})

    async def make_room(self) -> None:
        """Wait while more has been said than the database can take, for whoever says much. Never for long."""
        await self._writer.make_room()

    def _note(self, event: Event) -> None:
        now = self._happened = time.monotonic()
        self._end_waiting()
        stage = self._stages.get(event.stage)
        is_over = event.done >= event.total > 0
        if stage is None:
            # one stage follows another, and of some nobody knows beforehand how much there is
            self._end_stages(ENDED)
            stage = self._stages[event.stage] = _Stage(now, now, event)
            if not is_over:
                self._write_stage(event, BEGUN, f"{_WORDS[event.stage]}{_about(event)}")
        stage.last = event
        if is_over:
            self._end_stages(ENDED)
        elif now - stage.told >= PROGRESS_SECONDS:
            stage.told = now
            data: Data = {**_facts(event), "seconds": round(now - stage.begun, 1)}
            self._writer.write(PROGRESS, f"{_WORDS[event.stage]}: {_amount(event)}{_about(event)}", data)

    def _end_stages(self, how: str) -> None:
        for stage in self._stages.values():
            seconds = round(time.monotonic() - stage.begun, 1)
            words = f"{_WORDS[stage.last.stage]}: {'done' if how == ENDED else how} after {seconds} s"
            self._write_stage(stage.last, how, f"{words}{_about(stage.last) if how == ENDED else ''}", seconds)
        self._stages.clear()

    def _write_stage(self, event: Event, status: str, text: str, seconds: float | None = None) -> None:
        took: Data = {} if seconds is None else {"seconds": seconds}
        self._writer.write(STAGE, text, {**_facts(event), "status": status, **took})

    def look(self) -> None:
        """Note what the build waits for, if it does nothing else."""
        with _never_failing():
            self._look()

    def _look(self) -> None:
        if self._claim is None:
            return
        now = time.monotonic()
        if self._waiting is not None and self._waiting.wait not in self._claim.list_waits():
            self._end_waiting()
        if self._waiting is not None:
            pause = AGAIN[min(self._waiting.times, len(AGAIN)) - 1]
            if now - self._waiting.told >= pause:
                self._waiting.told, self._waiting.times = now, self._waiting.times + 1
                self._tell_wait(self._waiting.wait, now)
            return
        if now - self._happened < PATIENCE:
            return
        waits = [wait for wait in self._claim.list_waits() if now - wait.since >= PATIENCE]
        if waits:
            first = min(waits, key=lambda wait: wait.since)
            self._waiting = _Waiting(first, now)
            self._tell_wait(first, now)

    def _tell_wait(self, wait: Wait, now: float) -> None:
        seconds, others = round(now - wait.since, 1), wait.count_others()
        also = f"; {others:,} others wait for one, too" if others else ""
        text = f"has waited {seconds:.0f} s for {wait.what}{also}"
        self._writer.write(WAITING, text, {"for": wait.what, "seconds": seconds, "others": others})

    def _end_waiting(self) -> None:
        if self._waiting is None:
            return
        wait, self._waiting = self._waiting.wait, None
        seconds = round(time.monotonic() - wait.since, 1)
        text = f"got {wait.what} after {seconds:.0f} s"
        self._writer.write(WAITING, text, {"for": wait.what, "seconds": seconds, "status": ENDED})

    async def look_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()


class Journals:
    """The journals of one process."""

    def __init__(self, writers: LogWriters) -> None:
        self._writers = writers

    @contextlib.asynccontextmanager
    async def keeping(self, build: int, claim: Claim | None = None, *, resumed: bool = False) -> AsyncIterator[Journal]:
        """Keep the journal of a build while the block runs; the log ends with the block.

        Who was told that the build is complete has not waited for the end of its log, which follows within moments.

        With `resumed`, another process has begun the build and the log. If the block is cancelled before the build is
        over, the log does not end: another process, or this one after its restart, will go on.
        """
        writer = self._writers.open(build)
        journal = Journal(writer, claim)
        if resumed:
            journal.tell(RESUMED, "another process, or this one after a restart, goes on with the build")
        try:
            async with in_background(journal.look_repeatedly()):
                yield journal
        except asyncio.CancelledError:
            # a build that was canceled is over; any other goes on
            await (self._writers.end(writer) if journal.is_over else self._writers.release(writer))
            raise
        except BaseException:
            await self._writers.end(writer)
            raise
        else:
            self._writers.end_soon(writer)


@contextlib.contextmanager
def _never_failing() -> Iterator[None]:
    try:
        yield
    except Exception:
        # a build must not fail because of what is said about it
        log.exception("the journal of a build is broken")


def _facts(event: Event) -> dict[str, str | int]:
    unit = "bytes" if event.stage == "download" else "items"
    return {"stage": event.stage, "done": event.done, "total": event.total, "unit": unit, "detail": event.detail}


def _amount(event: Event) -> str:
    if event.stage != "download":
        return f"{event.done:,} of {event.total:,}"
    return f"{event.done / 1e6:,.1f} of {event.total / 1e6:,.1f} MB"


def _about(event: Event) -> str:
    return f" ({event.detail})" if event.detail else ""
