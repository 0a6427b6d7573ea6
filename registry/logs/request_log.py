"""One line for each request, in the same format as all other lines.

JSON lines bypass structlog: its processors cost a third of the time to answer a manifest from memory. They are
formatted and written a tenth of a second later, many at a time, which costs less than one at a time between requests.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import Any, Protocol, TextIO

import orjson
import structlog
from aiohttp import web

from registry.logs.settings import LogSettings
from storage.text import printable_json, redact

REQUEST_ID = web.RequestKey("request_id", str)
LOG_FIELDS = web.RequestKey("log_fields", dict[str, Any])
"""Fields that a handler adds to its request's log line."""

FLUSH_SECONDS = 0.1
FLUSH_LINES = 1000


class RequestLog(Protocol):
    """Logs finished requests."""

    def write(self, level: str, fields: dict[str, Any]) -> None:
        """Log `fields` at `level` (debug, info, error). Called on the event loop; returns at once.

        The caller must not use `fields` afterwards.
        """

    def flush(self) -> None:
        """Write what is still buffered."""


class StructuredRequestLog:
    """Request lines through structlog as it is configured: for terminals and tests."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log

    def write(self, level: str, fields: dict[str, Any]) -> None:
        getattr(self._log, level)("request", **fields)

    def flush(self) -> None:
        pass


class JsonRequestLog:
    """Request lines as JSON objects, buffered; errors are written at once."""

    def __init__(self, stream: TextIO, least: int) -> None:
        self._stream = stream
        self._written = {name.lower() for name, level in logging.getLevelNamesMapping().items() if level >= least}
        self._waiting: list[tuple[float, str, dict[str, Any]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = -1
        self._prefix = ""

    def write(self, level: str, fields: dict[str, Any]) -> None:
        if level not in self._written:
            return
        self._waiting.append((time.time(), level, fields))
        if level == "error" or len(self._waiting) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            text = printable_json("\n".join([self._line(*each) for each in waiting]))
            self._stream.write(redact(text) + "\n")
            self._stream.flush()

    def _line(self, now: float, level: str, fields: dict[str, Any]) -> str:
        fields["event"], fields["level"], fields["timestamp"] = "request", level, self._timestamp(now)
        try:
            return orjson.dumps(fields, default=str).decode()
        except TypeError:
            # a path may have bytes that are not UTF-8
            return json.dumps(fields, default=str)

    def _timestamp(self, now: float) -> str:
        """ISO 8601, UTC, microseconds, as structlog writes it; the part before the point is made once a second."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1_000_000):06d}Z"


def request_log(settings: LogSettings, stream: TextIO | None = None) -> RequestLog:
    """The request log that goes with `registry.logs.lines.configure(settings, stream)`."""
    stream = stream or sys.stderr
    if settings.log_format == "json" or (settings.log_format == "auto" and not stream.isatty()):
        return JsonRequestLog(stream, logging.getLevelNamesMapping()[settings.log_level.upper()])
    return StructuredRequestLog(structlog.get_logger("condery.http"))
