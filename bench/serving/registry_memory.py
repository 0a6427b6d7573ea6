"""Peak memory of a server process while twenty clients push at once."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from bench.row import Row
from bench.serving.contenders import CONDERY, REPOSITORY, Contender, contenders
from bench.serving.pushing import Pusher

MUST_MB = 250
CLIENTS = 20
SIZE = 1 << 30
BLOCK = secrets.token_bytes(1 << 20)
LOOK_SECONDS = 0.2


def measure_memory(programs: dict[str, Path], *, short: bool) -> list[Row]:
    """Each client streams its own blob; the peers get a tenth, since their memory does not grow with it."""
    size = SIZE // 64 if short else SIZE
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 1.5 * size * CLIENTS:
        print(f"memory is not measured: {free / 1e9:.0f} GB are free in {tempfile.gettempdir()}")
        return []
    with contenders({}, [], 1) as [ours]:
        value = _peak(ours, size)
    others = {}
    for name, program in programs.items():
        with contenders({name: program}, [], 1) as [_, peer]:
            others[name] = _peak(peer, size // 10)
    note = ", ".join(f"{name}: {peak / 1e6:,.0f} MB" for name, peak in others.items())
    name = f"memory of a process, {CLIENTS} clients push {size / (1 << 30):.3g} GiB each"
    return [Row(name, value / 1e6, "MB", MUST_MB, "at most", note=note)]


def _peak(contender: Contender, size: int) -> int:
    """Peak resident bytes of any one of the server's processes."""
    with _watch_peaks(contender.pid) as peaks, ThreadPoolExecutor(CLIENTS) as clients:
        # raises what a client raised
        list(clients.map(lambda number: _push(contender.port, number, size), range(CLIENTS)))
    if contender.name == CONDERY and not peaks:
        raise RuntimeError("no process of the server was seen")
    return max(peaks.values())


def _push(port: int, number: int, size: int) -> None:
    with Pusher(port) as pusher:
        pusher.streamed_blob(f"{REPOSITORY}-{number}", _blocks(number, size))


def _blocks(number: int, size: int) -> Iterator[bytes]:
    """Content that no other client sends, made faster than random bytes."""
    yield number.to_bytes(16) + secrets.token_bytes(16)
    for _ in range(size // len(BLOCK)):
        yield BLOCK


@contextlib.contextmanager
def _watch_peaks(pid: int) -> Iterator[dict[int, int]]:
    """Peaks of a process and its descendants by process id, updated until the block ends."""
    peaks: dict[int, int] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_SECONDS):
            _look(pid, peaks)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
        _look(pid, peaks)
    finally:
        ended.set()
        thread.join()


def _look(pid: int, peaks: dict[int, int]) -> None:
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        # a process may have ended meanwhile, and then has no figure
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            if found:
                peaks[process.pid] = int(found[1]) * 1024
