"""Log lines: their form, and that no secret is in them."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from registry.logs.lines import configure
from registry.logs.settings import LogSettings

pytestmark = pytest.mark.usefixtures("restored_logs")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_one_object_a_line_with_level_and_time() -> None:
    stream = io.StringIO()
    configure(LogSettings(log_format="json"), stream)
    structlog.get_logger().info("pulled", repository="r", status=200)
    [line] = lines(stream)
    assert (line["event"], line["level"], line["repository"], line["status"]) == ("pulled", "info", "r", 200)
    assert str(line["timestamp"]).endswith("Z")


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    configure(LogSettings(log_format="json", log_level="warning"), stream)
    structlog.get_logger().info("no")
    structlog.get_logger().warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_the_standard_librarys_loggers_go_the_same_way() -> None:
    stream = io.StringIO()
    configure(LogSettings(log_format="json"), stream)
    logging.getLogger("aiohttp.server").error("from %s", "http://user:secret@host/")
    [line] = lines(stream)
    assert (line["event"], line["level"]) == ("from http://***@host/", "error")


def test_console_is_text_for_people() -> None:
    stream = io.StringIO()
    configure(LogSettings(log_format="console"), stream)
    structlog.get_logger().info("pulled", status=200)
    assert "pulled" in stream.getvalue()
    assert "status=200" in stream.getvalue()


def test_no_secret_is_written_wherever_it_is() -> None:
    stream = io.StringIO()
    configure(LogSettings(log_format="json"), stream)
    url = "https://user:hunter2@host/t/hunter2/channel"
    log = structlog.get_logger()
    log.info(f"reading {url}", url=url, urls=[url], table={"u": url}, error=ValueError(url))
    log.info("signed in", token="hunter2", password="hunter2", authorization="Basic hunter2", user="a@b")
    try:
        raise ValueError(url)
    except ValueError:
        log.exception("failed")
    assert "hunter2" not in stream.getvalue()
    first, second, third = lines(stream)
    assert first["url"] == "https://***@host/t/***/channel"
    assert (second["token"], second["user"]) == ("***", "a@b")
    assert "ValueError" in str(third["exception"])
