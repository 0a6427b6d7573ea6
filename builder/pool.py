"""Worker processes for what would hold the event loop: transcoding, hashing, reading archives.

A worker may die (killed, out of memory). The pool is then made anew and the tasks that were lost run again; what they
write is atomic and named by content, so a second run is harmless.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import ParamSpec, Self, TypeVar

from builder.errors import WorkerLost

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS = 3
CLOSE_SECONDS = 5.0
PRELOAD = ["builder.layer", "builder.contents", "builder.environment", "builder.environment_archive"]


class WorkerPool:
    """`workers` processes, started when first needed. Use as an async context manager."""

    def __init__(self, workers: int, on_loss: Callable[[], object] | None = None) -> None:
        self._workers = workers
        self._on_loss = on_loss
        """Called in a thread when workers have died, to clear away what they left."""
        self._executor: ProcessPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop the workers; tasks that wait are dropped, running ones get CLOSE_SECONDS to finish."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        # a list of the executor's own, which `shutdown` forgets; Python 3.14 has a method that ends them
        workers = list((executor._processes or {}).values())
        ending = asyncio.create_task(asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True))
        done, _ = await asyncio.wait({ending}, timeout=CLOSE_SECONDS)
        if not done:
            for worker in workers:
                worker.kill()
        await ending

    async def run(self, doing: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args)` in a worker; it and its arguments are pickled.

        Raises what the function raises, and WorkerLost(doing) when its worker died each of ATTEMPTS times.
        """
        for _ in range(ATTEMPTS):
            executor = self._executor or self._start()
            try:
                return await asyncio.wrap_future(executor.submit(function, *args, **kwargs))
            except BrokenProcessPool:
                if self._executor is executor:
                    self._executor = None
                    await asyncio.to_thread(self._bury, executor)
        raise WorkerLost(doing)

    async def warm(self) -> None:
        """Start every worker now, so that the first build does not pay for it."""
        await asyncio.gather(*(self.run("starting", os.getpid) for _ in range(self._workers)))

    def _bury(self, executor: ProcessPoolExecutor) -> None:
        executor.shutdown(wait=True)
        if self._on_loss:
            self._on_loss()

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._executor = ProcessPoolExecutor(self._workers, mp_context=context, initializer=_start_worker)
        return self._executor


def _start_worker() -> None:
    _die_with_parent()
    # what is loaded by now stays, and tens of thousands of paths are no reason to look for cycles
    gc.freeze()
    gc.set_threshold(200_000)


def _die_with_parent() -> None:
    """A worker whose server was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
