"""What others wrote is shown, and never obeyed by the terminal."""

from __future__ import annotations

import io
import json
from typing import Literal, get_args

import pytest
from rich.table import Table

from builder.progress import Event
from registry.answers import Form, error_response
from registry.cli.display import PlainLines, SafeConsole, echo, echo_json, live_bars
from registry.cli.environments.following import show_event
from registry.cli.environments.shown import ShownEvent
from registry.cli.options import fail
from registry.logs.lines import configure
from registry.logs.request_log import request_log
from registry.logs.settings import LogSettings
from storage.errors import ConderyError

EVIL = "x\x1b]0;owned\x07\x9b31m\u202e\x7f[red]y[/red]"
SHOWN = "x\\x1b]0;owned\\x07\\x9b31m\\u202e\\x7f[red]y[/red]"


def test_a_console_shows_them_in_lines_and_tables() -> None:
    file = io.StringIO()
    console = SafeConsole(file=file)
    table = Table("path")
    table.add_row(EVIL)
    console.print(EVIL)
    console.print(table)
    PlainLines(console)(Event("download", 1, 2, EVIL))
    assert file.getvalue().count(SHOWN) == 2
    assert "\x1b" not in file.getvalue()


def test_bars_show_what_a_server_says_of_a_build() -> None:
    """Stages that there are not are left out, and what else it says is not obeyed."""
    file = io.StringIO()
    console = SafeConsole(file=file)
    console._force_terminal = True
    happened = [
        ShownEvent("state", "BUILDING", {"status": "BUILDING"}),
        ShownEvent("stage", "", {"stage": "inspect", "done": 3, "total": 7, "detail": EVIL, "status": "begun"}),
        ShownEvent("stage", "", {"stage": "[red]other", "done": 1, "total": 1}),
        ShownEvent("stage", "", {"stage": "download", "done": "1", "total": None}),
        ShownEvent("waiting", f"has waited 3 s for {EVIL}", {"for": EVIL}),
    ]
    with live_bars(console) as bars:
        for event in happened:
            show_event(bars, event)
    text = file.getvalue()
    assert "3 of 7 packages" in text
    assert SHOWN[:9] in text
    assert "has waited 3 s for x\\x1b" in text
    assert "\x1b]0;owned" not in text
    assert "other" not in text
    assert "download" not in text


def test_lines_of_commands_and_their_errors(capsys: pytest.CaptureFixture[str]) -> None:
    echo(EVIL)
    echo_json({"name": EVIL})
    with pytest.raises(BaseException, match=r"\A1?\Z"):
        fail(EVIL, 1)
    out, err = capsys.readouterr()
    first, _, document = out.partition("\n")
    assert first == SHOWN
    assert json.loads(document) == {"name": EVIL}
    assert all(character.isprintable() or character == "\n" for character in out + err)
    assert SHOWN in err


@pytest.mark.parametrize("form", get_args(Form))
def test_an_answers_message(form: Form) -> None:
    response = error_response(form, ConderyError(f"a\nb {EVIL}"))
    assert isinstance(response.body, bytes)
    assert (b"a\nb" if form == "page" else b"a\\nb") in response.body
    assert b"\\x1b" in response.body
    assert response.body.isascii()


@pytest.mark.usefixtures("restored_logs")
@pytest.mark.parametrize("form", ["json", "console"])
async def test_log_lines(form: Literal["json", "console"]) -> None:
    import structlog

    stream = io.StringIO()
    settings = LogSettings(log_format=form)
    configure(settings, stream)
    structlog.get_logger().info("built", package=f"{EVIL}\nforged line", packages=[EVIL])
    try:
        raise ValueError(EVIL)
    except ValueError:
        structlog.get_logger().exception("failed")
    log = request_log(settings, stream)
    log.write("info", {"path": f"{EVIL}\udcff", "status": 200})
    log.flush()
    text = stream.getvalue()
    assert all(character.isprintable() or character == "\n" for character in text)
    assert not any(line.startswith("forged") for line in text.splitlines())
    assert "x\\" in text
