"""Standard error for a server: nobody ever waits for it.

A pipe that nobody reads takes 64 KiB, and then blocks its writer. So lines are handed to a thread, and only that thread
waits. It drops and counts what it cannot keep, and logs the count when lines go out again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from io import TextIOBase
from typing import TextIO, cast

import orjson

KEPT_BYTES = 4 << 20
"""The most bytes that wait for a slow reader."""

CLOSE_SECONDS = 2.0
"""The longest time for the last lines when the server ends."""


class LogStream(TextIOBase):
    """A text stream over a file descriptor; its `write` never blocks."""

    def __init__(self, descriptor: int, *, terminal: bool, kept_bytes: int = KEPT_BYTES) -> None:
        self._descriptor = descriptor
        self._terminal = terminal
        self._kept_bytes = kept_bytes
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        # a daemon thread: it may wait for a reader that never comes
        self._thread = threading.Thread(target=self._run, name="condery-log", daemon=True)
        self._thread.start()

    def isatty(self) -> bool:
        return self._terminal

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Take one or more whole lines, or drop them."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._size + len(data) > self._kept_bytes:
                self._dropped += text.count("\n")
            else:
                self._waiting.append(data)
                self._size += len(data)
                self._changed.notify()
        return len(text)

    def flush(self) -> None:
        """Nothing waits here, so there is nothing to do."""

    def close(self) -> None:
        """Write what is left, for CLOSE_SECONDS at most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)
        super().close()

    def _run(self) -> None:
        while (data := self._next()) is not None:
            # the reader may be gone, which is no reason to stop
            with contextlib.suppress(OSError):
                while data:
                    data = data[os.write(self._descriptor, data) :]

    def _next(self) -> bytes | None:
        """The next bytes to write, in one piece; None at the end."""
        with self._changed:
            while not self._waiting and not self._dropped and not self._closing:
                self._changed.wait()
            if not self._waiting and not self._dropped:
                return None
            lines = b"".join(self._waiting)
            self._waiting.clear()
            self._size = 0
            if self._dropped:
                lines += _tell_dropped(self._dropped)
                self._dropped = 0
            return lines


def _tell_dropped(count: int) -> bytes:
    line = {
        "event": "log lines dropped: standard error was not read fast enough",
        "count": count,
        "level": "warning",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return orjson.dumps(line) + b"\n"


@contextlib.contextmanager
def never_waiting_stderr() -> Iterator[None]:
    """Make `sys.stderr` a LogStream while the block runs, so that its reader stops nothing that writes to it."""
    real = sys.stderr
    real.flush()
    stream = LogStream(real.fileno(), terminal=real.isatty())
    # the interface of a text stream, except for what nobody uses on standard error
    sys.stderr = cast(TextIO, stream)
    try:
        yield
    finally:
        sys.stderr = real
        stream.close()
