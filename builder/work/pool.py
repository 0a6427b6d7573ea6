"""Worker processes for work that would block the event loop: transcoding, hashing, reading archives.

A worker may die (killed, out of memory). A new one then repeats its task, and no other task notices; whatever tasks
write is atomic and named by content, so a second run is harmless. A worker that has grown is replaced.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec, Self, TypeVar, cast

from builder.errors import MemoryLimit, WorkerLost
from builder.work.claims import current_claim
from builder.work.turns import Lane
from builder.work.worker import NICENESS, Answer, serve

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS = 3
CLOSE_SECONDS = 5.0
MEMORY = 512 << 20
PATIENCE = 2.0
"""Seconds after which a task counts as long. Others then start beside it, in one more process if need be."""
HEAVY = 64 << 20
"""Bytes of packages from which on a task is for workers that give way to others: it takes half a second or more. A
package counts as large if its channel does not say its size."""
HEAVY_NICENESS = 15
"""What those add to their niceness (nice(2))."""
EXTRA = 1
"""Processes more for those who are signed in, if all are busy with what others asked for."""
PRELOAD = [
    "builder.layers.layer",
    "builder.packages.inspection",
    "builder.image.environment_layer_task",
    "builder.artifacts.conda_pack",
    "builder.environments.directories.extraction",
    "builder.environments.directories.steps",
    "builder.packages.overlap",
    "builder.environments.inputs.reading",
    "builder.work.worker",
]


class WorkerPool:
    """`workers` processes of at most `memory` bytes, started when first needed, and as many more while long tasks run.
    One more runs what somebody signed in asked for while all are busy with what others did.

    Tasks take turns: those of a build with many tasks do not all go before another build's. Use it as an async context
    manager.
    """

    def __init__(
        self,
        workers: int,
        on_loss: Callable[[], object] | None = None,
        memory: int = MEMORY,
        niceness: int = NICENESS,
        heavy: WorkerPool | None = None,
    ) -> None:
        """`heavy` does the heavy tasks, so that no others wait for them. Who makes it closes it."""
        self._workers = workers
        self._niceness = niceness
        self._heavy = heavy
        self._on_loss = on_loss
        """Called in a thread when a worker has died, to clean up what it left."""
        self._memory = memory
        self._lane = Lane(workers, long=workers, patience=PATIENCE, extra=EXTRA, what="a worker")
        self._threads = ThreadPoolExecutor(2 * workers + EXTRA, thread_name_prefix="worker")
        """One thread waits for each worker, so that no more tasks are under way than there are workers."""
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._working: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop the workers. Waiting tasks are dropped; running ones get CLOSE_SECONDS to finish."""
        self._closed = True
        ending = asyncio.create_task(asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True))
        done, _ = await asyncio.wait({ending}, timeout=CLOSE_SECONDS)
        if not done:
            with self._lock:
                for process in self._busy:
                    process.kill()
        await ending
        await asyncio.gather(*self._working, return_exceptions=True)
        await asyncio.to_thread(self._end_idle)

    async def run(self, doing: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(*args)` in a worker. The function and its arguments are pickled.

        Raises what the function raises, MemoryLimit(doing) if it needs more memory than a worker may have, and
        WorkerLost(doing) if its worker died in each of ATTEMPTS attempts.

        A cancelled caller is released at once. Work that a worker has started goes on and keeps its slot until it ends,
        because its thread is busy for as long.
        """
        begun = asyncio.Event()
        work = asyncio.create_task(self._take_turn(begun, doing, functools.partial(function, *args, **kwargs)))
        self._working.add(work)
        work.add_done_callback(self._note_end)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not begun.is_set():
                work.cancel()
            raise

    async def run_sized(self, size: int, doing: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(*args)`, which works on packages of `size` bytes, as `run` does.

        Strangers' large ones give way to all else.
        """
        is_heavy = self._heavy is not None and size >= HEAVY and current_claim().is_anonymous()
        pool = self._heavy if self._heavy is not None and is_heavy else self
        return await pool.run(doing, function, *args, **kwargs)

    async def _take_turn(self, begun: asyncio.Event, doing: str, task: Callable[[], T]) -> T:
        async with self._lane.turn():
            begun.set()
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._do, doing, task)

    def _note_end(self, work: asyncio.Task[Any]) -> None:
        self._working.discard(work)
        if not work.cancelled():
            # if the caller was cancelled, nobody is left to see the exception
            work.exception()

    async def warm(self) -> None:
        """Start every worker now, so that the first build need not wait for it."""
        await asyncio.to_thread(self._start_all)

    def _do(self, doing: str, task: Callable[[], T]) -> T:
        content = pickle.dumps(task)
        package = None
        for _ in range(ATTEMPTS):
            process = self._take()
            try:
                answer = process.ask(content)
            except EOFError:
                package = process.package
                self._bury(process)
                if self._closed:
                    break
                continue
            except BaseException:
                # its answer cannot be read, and what it would say next is unknown
                self._bury(process)
                raise
            self._give_back(process, answer)
            if isinstance(answer.error, MemoryError):
                raise MemoryLimit(doing, self._memory) from answer.error
            if answer.error:
                raise answer.error from (RuntimeError(answer.traceback) if answer.traceback else None)
            return cast(T, answer.value)
        raise WorkerLost(f"{doing}, at package {package}" if package else doing)

    def _take(self) -> _Process:
        with self._lock:
            process = self._idle.pop() if self._idle else _Process(self._memory, self._niceness)
            self._busy.add(process)
        return process

    def _give_back(self, process: _Process, answer: Answer) -> None:
        with self._lock:
            self._busy.discard(process)
            if not answer.grown:
                self._idle.append(process)
                return
        process.end()

    def _bury(self, process: _Process) -> None:
        with self._lock:
            self._busy.discard(process)
        process.end()
        if self._on_loss:
            self._on_loss()

    def _start_all(self) -> None:
        processes = [self._take() for _ in range(self._workers)]
        for process in processes:
            try:
                self._give_back(process, process.ask(pickle.dumps(os.getpid)))
            except EOFError:
                self._bury(process)
            except BaseException:
                self._bury(process)
                raise

    def _end_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()


class _Process:
    """One worker process, which does one task at a time."""

    def __init__(self, memory: int, niceness: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._pipe, theirs = context.Pipe()
        with theirs:
            self._process: BaseProcess = context.Process(target=serve, args=(theirs, memory, niceness), daemon=True)
            self._process.start()
        self.package: str | None = None
        """The package that it last said it was working on."""

    def ask(self, task: bytes) -> Answer:
        """Return the outcome of a pickled task. Raises EOFError if the task kills the process."""
        self.package = None
        try:
            self._pipe.send_bytes(task)
            while not isinstance(answer := pickle.loads(self._pipe.recv_bytes()), Answer):  # noqa: S301 - from our own worker
                self.package = answer
        except OSError:
            raise EOFError from None
        return answer

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """End the process. Closing the pipe is enough for one that waits for a task."""
        self._pipe.close()
        self._process.join(CLOSE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
