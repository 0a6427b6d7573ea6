"""Engines of the queue as the suite opens them, in this process or in one that is to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from builder.names.spec import EnvironmentSpec, PackageItem
from builder.queue.embedded import EmbeddedQueue
from builder.queue.job import Job
from builder.queue.protocol import BuildQueue, CompletedBuild, SubmittedBuild
from builder.settings import BuilderSettings
from builder.work.turns import Lane
from storage.catalog.builds import Builds
from storage.database.engine import Database

ENGINES = ("embedded",)

SETTINGS = BuilderSettings(failure_memory=30)

SOON = 30.0
"""Seconds after which what is waited for does not come any more."""


def job(name: str) -> Job:
    return Job("image", EnvironmentSpec(items=(PackageItem(name),), channels=("conda-forge",)))


NUMPY = job("numpy")


class Work:
    """Counts its runs and lasts until it is released; no more than `slots` at a time."""

    def __init__(self, failure: Exception | None = None, *, slots: int = 100, released: bool = False) -> None:
        self.begun: list[str] = []
        self.stopped: list[str] = []
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.failure = failure
        self._lane = Lane(slots)
        if released:
            self.release.set()

    @property
    def waiting(self) -> int:
        return self._lane.waiting

    async def __call__(self, job: Job) -> str:
        async with self._lane.turn():
            self.begun.append(name_of(job))
            self.started.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.stopped.append(name_of(job))
                raise
            if self.failure:
                raise self.failure
            return f"key of {name_of(job)}"


def name_of(job: Job) -> str:
    return " ".join(job.spec.match_specs())


@dataclass
class Engines:
    kind: str
    builds: Builds
    url: str
    _opened: list[BuildQueue] = field(default_factory=list)

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, kind: str, builds: Builds, url: str) -> AsyncIterator[Self]:
        engines = cls(kind, builds, url)
        try:
            yield engines
        finally:
            for queue in engines._opened:
                await queue.close()

    def open(self, work: Work, settings: BuilderSettings = SETTINGS) -> BuildQueue:
        """An engine of a process of its own, as far as it can tell."""
        queue = open_engine(self.kind, self.builds, work, settings)
        self._opened.append(queue)
        return queue

    @contextlib.contextmanager
    def process(self) -> Iterator[subprocess.Popen[str]]:
        """A process that works on NUMPY, and will for long; killed at the end of the block, if not before."""
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, self.kind, self.url],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()
            process.communicate()


def open_engine(kind: str, builds: Builds, work: Work, settings: BuilderSettings) -> BuildQueue:
    assert kind in ENGINES
    return EmbeddedQueue(builds, work, settings)


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON):
        while not what():
            await asyncio.sleep(0.01)


async def completed(build: SubmittedBuild) -> CompletedBuild:
    done = await build.wait(SOON)
    assert done is not None
    return done


async def status_of(builds: Builds) -> str | None:
    row = await builds.last(NUMPY.key)
    return row.status if row else None


async def wait_for_status(builds: Builds, status: str) -> None:
    async with asyncio.timeout(SOON):
        while await status_of(builds) != status:
            await asyncio.sleep(0.01)


async def main(kind: str, url: str) -> None:
    work = Work()
    queue = open_engine(kind, Builds(Database.open(url)), work, SETTINGS)
    await queue.submit(NUMPY)
    await work.started.wait()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
