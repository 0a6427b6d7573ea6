"""Records: whatever is said, each is one bounded line of JSON that no terminal obeys and that has no credentials."""

from __future__ import annotations

import json

import pytest

from storage.environments.log_record import MOST_DATA, MOST_LINE, MOST_RECORD, MOST_TEXT, read_records, write_records

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


def test_lines_that_are_no_records_are_left_out_and_counted() -> None:
    [good] = write_records("line", "good")
    content = good + b"{}\n" + b"not json\n" + b'{"at": "x"}\n' + good
    found = list(read_records(content))
    assert [record.text for record, _ in found] == ["good", "good"]
    assert sum(size for _, size in found) == len(content)
