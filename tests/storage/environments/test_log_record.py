"""Records: whatever is said, each is one bounded line of JSON that no terminal obeys and that has no credentials."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from storage.environments.log_record import (
    MOST_DATA,
    MOST_LINE,
    MOST_RECORD,
    MOST_TEXT,
    Value,
    clean_record,
    read_records,
    write_records,
)

HOSTILE = [
    "\x1b[31mred\x1b[0m", "a\rb", "\x00", "\x9b", "\u202eabc", "\ud800", "\u2028x", "\U0001f40d" * 9000, '"' * 9000,
    "\\" * 9000, "\x01" * 9000, "\u202e" * 9000, "",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:6]))
def test_a_record_is_one_bounded_line_of_printable_json(text: str) -> None:
    data = {f"name{number}": text for number in range(30)}
    for line in write_records("state", text, data):
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert len(line) < MOST_RECORD
        decoded = line.decode()
        assert decoded[:-1].isprintable() or "\U0001f40d" in decoded
        assert not set(decoded) & set("\x1b\x00\x9b\u202e\u2028\r")
        found = json.loads(line)
        assert found["kind"] in ("state", "line")
        assert "\x1b" not in found["text"]
        for value in found.get("data", {}).values():
            assert len(value) <= 2 * MOST_DATA + 60
            assert not set(value) & set("\x1b\x00\x9b\u202e\u2028\r")


def test_a_text_of_several_lines_is_several_records() -> None:
    lines = b"".join(write_records("state", "one\ntwo\r\nthree", {"status": "FAILED"}))
    found = [record for record, _ in read_records(lines)]
    assert [(record.kind, record.text, dict(record.data)) for record in found] == [
        ("state", "one", {"status": "FAILED"}),
        ("line", "two", {}),
        ("line", "three", {}),
    ]
    assert [record.is_event for record in found] == [True, False, False]


def test_what_is_too_long_is_cut_and_says_so() -> None:
    [line] = write_records("line", "x" * (MOST_LINE + 17))
    assert json.loads(line)["text"] == f"{'x' * MOST_LINE}... (17 more characters)"
    *_, last = write_records("line", "a\n" * MOST_TEXT)
    assert json.loads(last)["text"] == f"... {MOST_TEXT:,} more characters were left out"


def test_credentials_are_hidden_before_anything_is_cut() -> None:
    at_the_cut = "x" * (MOST_LINE - 20) + " https://user:secret-of-somebody@example.org/"
    for text in ("from https://user:secret-of-somebody@example.org/t/secret-of-somebody/x", at_the_cut):
        [line] = write_records("line", text, {"url": text})
        assert b"secret-of" not in line
        assert b"***" in line


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:6]))
def test_a_record_that_is_cleaned_stays_what_it_was(text: str) -> None:
    data: dict[str, Value] = {"url": text, "done": 1, "seconds": 0.5, "none": None, "is": True}
    for line in write_records("state", f"{text} https://user:secret@example.org/t/secret/", data):
        assert clean_record(line, time.time() + 1) == line


ODD: dict[str, tuple[Any, dict[str, Any] | None]] = {
    "a terminal's sequence": ({"text": "\x1b[2Jgone"}, {"text": "\\x1b[2Jgone"}),
    "lines": ({"text": "a\nb"}, {"text": "a\\x0ab"}),
    "a credential": ({"text": "https://user:secret@host/"}, {"text": "https://***@host/"}),
    "a kind with lines": ({"kind": "state\ndata: x"}, {"kind": "line"}),
    "another kind": ({"kind": "later_one"}, {"kind": "later_one"}),
    "nested data": ({"data": {"a": [1], "b": {"c": 1}, "d": 1}}, {"data": {"d": 1}}),
    "names of data": ({"data": {"\x1b": "\x1b"}}, {"data": {"\\x1b": "\\x1b"}}),
    "no data": ({"data": [1]}, {}),
    "another field": ({"more": 1}, {}),
    "a time to come": ({"at": 9e12}, None),
    "a time before all": ({"at": -1}, None),
    "no time": ({"at": "nan"}, None),
    "endless time": ({"at": "inf"}, None),
    "no kind": ({"kind": None}, {"kind": "line"}),
}


@pytest.mark.parametrize(("changes", "expected"), ODD.values(), ids=ODD)
def test_what_no_record_of_ours_says_is_cleaned(changes: dict[str, Any], expected: dict[str, Any] | None) -> None:
    record = {"at": 5.0, "kind": "state", "text": "x"}
    found = clean_record(json.dumps(record | changes).encode() + b"\n", 10.0)
    assert (None if found is None else json.loads(found)) == (None if expected is None else record | expected)


def test_a_record_has_bounds_whoever_wrote_it() -> None:
    data = {f"{number}{'n' * 5000}": "\u202e" * 5000 for number in range(100)}
    found = clean_record(json.dumps({"at": 5, "kind": "state", "text": "\u2028" * 90_000, "data": data}).encode(), 10)
    assert found is not None
    assert len(found) < MOST_RECORD
    for line in (b"", b"\n", b"[" * 100_000, b"\x1f\x8b\x00", b"null\n", b'{"at": 1}\n'):
        assert clean_record(line, 10) is None


def test_lines_that_are_no_records_are_left_out_and_counted() -> None:
    [good] = write_records("line", "good")
    content = good + b"{}\n" + b"not json\n" + b'{"at": "x"}\n' + good
    found = list(read_records(content))
    assert [record.text for record, _ in found] == ["good", "good"]
    assert sum(size for _, size in found) == len(content)
