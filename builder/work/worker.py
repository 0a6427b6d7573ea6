"""What a worker process of the pool does: one task after the other, within a memory limit.

It tells the pool which package it is working on, so that the right one is named if the process dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

from builder.errors import LONGEST_REASON, PackageRefused
from builder.work.priority import give_way
from storage.errors import ConderyError

GROWN = 192 << 20
"""Resident bytes at which a worker is replaced after its task. One that has read large packages has half as many."""

TRIMMED = 128 << 20
"""Resident bytes at which a worker returns unused memory. That takes milliseconds, so it is not done each time."""

Task = Callable[[], Any]

NICENESS = 10
"""Added to a worker's niceness (nice(2))."""


@dataclass(frozen=True)
class Answer:
    """The outcome of a task: its value or its error. If it has `grown`, the worker must be replaced."""

    value: Any = None
    error: Exception | None = None
    traceback: str = ""
    """The traceback of an unexpected error."""
    grown: bool = False


@dataclass(frozen=True)
class _Worker:
    """This process, if it is a worker."""

    pool: connection.Connection
    memory: int


_this: _Worker | None = None


@contextlib.contextmanager
def working_on(package: str) -> Iterator[None]:
    """Name the package that the block reads. If it needs more memory than allowed, raises PackageRefused."""
    if _this:
        _this.pool.send_bytes(pickle.dumps(package))
    try:
        yield
    except MemoryError:
        raise PackageRefused(
            package, f"it needs more than the {_describe_memory()} that a worker may use (worker_memory)"
        ) from None


def _describe_memory() -> str:
    return f"{_this.memory >> 20} MiB" if _this else "memory"


def serve(pool: connection.Connection, memory: int, niceness: int) -> None:
    """Do the tasks that come from `pool` until it closes: a process's main function. `memory` is in bytes."""
    global _this  # noqa: PLW0603 - a process is one worker, and knows it from here on
    _this = _Worker(pool, memory)
    # requests for stored content are answered by the server's own process, which must not wait for workers
    give_way(niceness)
    _die_with_parent()
    # Ctrl-C reaches all processes of a terminal, and the pool ends its workers itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # limits what the process itself allocates; libraries are mapped files, which the machine shares
    resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    # what is loaded by now stays, and tens of thousands of paths are no reason to look for cycles
    gc.freeze()
    gc.set_threshold(200_000)
    while True:
        try:
            task = pool.recv_bytes()
        except (EOFError, OSError):
            return
        answer = _answer(task)
        del task
        with contextlib.suppress(OSError):
            pool.send_bytes(answer)


def _answer(task: bytes) -> bytes:
    """Run a pickled task and return its pickled Answer."""
    try:
        return pickle.dumps(Answer(pickle.loads(task)(), grown=_has_grown()))  # noqa: S301 - from our own server
    except Exception as error:  # noqa: BLE001 - raised again where the task came from
        text = "" if isinstance(error, ConderyError) else traceback.format_exc()
        raised = error
    # objects held by the error's frames must be freed first
    raised.__traceback__ = raised.__context__ = raised.__cause__ = None
    try:
        return pickle.dumps(Answer(error=raised, traceback=text, grown=_has_grown()))
    except (pickle.PicklingError, TypeError, AttributeError):
        return pickle.dumps(Answer(error=RuntimeError(repr(raised)[:LONGEST_REASON]), traceback=text))


def _has_grown() -> bool:
    """Whether the process is too large even after it has returned what it can."""
    if _read_resident() < TRIMMED:
        return False
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _read_resident() > GROWN


def _read_resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _die_with_parent() -> None:
    """End this process if the server is killed in the middle of a task, so that the task does not go on."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
