"""Answers that go on: server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

A proxy must neither collect nor keep them. Between events there are comments, so that nobody on the way takes the
connection for dead. An event has an id, with which a client that was cut off goes on where it was.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from registry.errors import TooManyStreams

BEAT_SECONDS = 15.0
"""Between two signs of life. Proxies cut what is silent for 30 seconds and more."""
MOST_SECONDS = 3600.0
"""After so long a stream ends, and whoever still wants it asks again: rights may have been taken back meanwhile."""
RETRY = b"retry: 2000\n\n"
"""The first bytes: milliseconds after which a client that was cut off asks again. They show that the stream is open."""
BEAT = b": still here\n\n"

EVENTS = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}

_NUMBER = re.compile(r"[0-9]{1,15}")


class Streams:
    """The open streams of one process. Each sender has at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def one_of(self, sender: str) -> Iterator[None]:
        """Count a stream of `sender` while the block runs. Raises TooManyStreams."""
        if self._open[sender] >= self._most:
            raise TooManyStreams(sender, self._most)
        self._open[sender] += 1
        try:
            yield
        finally:
            self._open[sender] -= 1
            if not self._open[sender]:
                del self._open[sender]


def wants_events(request: web.Request) -> bool:
    """Whether the client asks for server-sent events, as browsers' EventSource does."""
    return EVENTS in request.headers.get("Accept", "")


def resumed_at(request: web.Request) -> int | None:
    """The position after which a client that was cut off goes on; None if it begins."""
    text = request.headers.get("Last-Event-ID", "")
    return int(text) if _NUMBER.fullmatch(text) else None


def write_event(kind: str, position: int, data: str) -> bytes:
    """One event. `kind` and `data` are single lines."""
    return f"event: {kind}\nid: {position}\ndata: {data}\n\n".encode()
