"""Structured logs: one JSON object per line, or text for people; neither ever contains a secret."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import orjson
import structlog

from registry.logs.settings import LogSettings
from storage.text import HIDDEN, printable, printable_json, printable_line, redact

SECRET_NAMES = frozenset({"authorization", "cookie", "password", "secret", "token", "credentials", "set-cookie"})
"""Names whose values are never logged."""


def mask_secret_names(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor."""
    for name in SECRET_NAMES.intersection(event):
        event[name] = HIDDEN
    return event


def escape_controls(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor for lines that a terminal shows; a traceback keeps its own lines."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value) if name in ("exception", "stack") else printable_line(value)
    return event


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Set up structlog, and make the standard library's loggers go through it. Call once, before the first line.

    Lines go to `stream`, or else to standard error.
    """
    stream = stream or sys.stderr
    console = settings.log_format == "console" or (settings.log_format == "auto" and stream.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty()) if console else structlog.processors.JSONRenderer(to_json)
    )

    def render(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        # Only the finished line has all URLs, including those in tracebacks and in objects rendered as text.
        return redact(str(renderer(logger, method, event)))

    last: list[structlog.typing.Processor] = [
        mask_secret_names,
        structlog.processors.format_exc_info,
        *([escape_controls] if console else []),
        render,
    ]
    structlog.configure(
        processors=shared + last,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def to_json(value: object, **_: object) -> str:
    """One line of JSON, whatever is in `value`."""
    try:
        text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # half a surrogate pair has no UTF-8; bytes that are not text become some
        text = json.dumps(value, default=str, skipkeys=True)
    return printable_json(text)
