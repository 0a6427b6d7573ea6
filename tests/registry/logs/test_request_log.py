"""Request lines: complete, soon there, at once for errors, without credentials."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import Any

from registry.logs.request_log import FLUSH_LINES, FLUSH_SECONDS, JsonRequestLog, StructuredRequestLog, request_log
from registry.logs.settings import LogSettings


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_lines_come_in_order_after_a_moment() -> None:
    stream = io.StringIO()
    log = JsonRequestLog(stream, logging.INFO)
    for number in range(5):
        log.write("info", {"path": f"/{number}"})
    assert stream.getvalue() == ""
    await asyncio.sleep(FLUSH_SECONDS * 2)
    assert [line["path"] for line in lines(stream)] == [f"/{number}" for number in range(5)]
    assert {(line["event"], line["level"], line["timestamp"][-1]) for line in lines(stream)} == {
        ("request", "info", "Z")
    }


async def test_errors_and_many_lines_are_written_at_once() -> None:
    stream = io.StringIO()
    log = JsonRequestLog(stream, logging.INFO)
    log.write("info", {"path": "/a"})
    log.write("error", {"path": "/b"})
    assert [line["path"] for line in lines(stream)] == ["/a", "/b"]
    for _ in range(FLUSH_LINES):
        log.write("info", {})
    assert len(lines(stream)) == FLUSH_LINES + 2


async def test_less_than_the_level_is_left_out() -> None:
    stream = io.StringIO()
    log = JsonRequestLog(stream, logging.ERROR)
    log.write("info", {})
    log.write("error", {})
    log.flush()
    assert [line["level"] for line in lines(stream)] == ["error"]


async def test_credentials_and_line_breaks_in_paths_do_no_harm() -> None:
    stream = io.StringIO()
    log = JsonRequestLog(stream, logging.INFO)
    log.write("info", {"path": "/v2/a\n{}"})
    log.write("info", {"path": "/x", "reason": "channel https://me:secret@example.org/t/tk-1/c cannot be read"})
    log.flush()
    first, second = lines(stream)
    assert first["path"] == "/v2/a\n{}"
    assert "secret" not in second["reason"]
    assert "tk-1" not in second["reason"]


def test_form_follows_the_settings() -> None:
    assert isinstance(request_log(LogSettings(log_format="json"), io.StringIO()), JsonRequestLog)
    assert isinstance(request_log(LogSettings(log_format="auto"), io.StringIO()), JsonRequestLog)
    assert isinstance(request_log(LogSettings(log_format="console"), io.StringIO()), StructuredRequestLog)
