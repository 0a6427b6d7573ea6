"""Control characters from outside, written out."""

from __future__ import annotations

import json
import unicodedata

import pytest

from storage.text import printable, printable_json, printable_line, redact

DANGEROUS = [
    *range(0x09),
    *range(0x0B, 0x20),
    *range(0x7F, 0xA0),
    *(0x61C, 0x200E, 0x200F, 0x2028, 0x2029, 0x202A, 0x202E, 0x2066, 0x2069, 0xFEFF, 0xD800, 0xDFFF),
]


@pytest.mark.parametrize("code", DANGEROUS, ids=hex)
def test_a_control_character_is_written_out(code: int) -> None:
    text = f"a{chr(code)}b"
    for shown in (printable(text), printable_line(text)):
        assert shown.startswith("a\\")
        assert shown.isprintable()
        assert shown.isascii()


def test_every_control_character_of_unicode_is_among_them() -> None:
    controls = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Zl", "Zp", "Cs")]
    assert printable_line("".join(controls)).isprintable()


def test_lines_stay_where_there_may_be_several() -> None:
    assert printable("one\n\ttwo") == "one\n\ttwo"
    assert printable_line("one\n\ttwo") == "one\\x0a\\x09two"


def test_other_text_stays() -> None:
    text = "numpy 1.0 - größer, 数, \U0001f40d"
    assert printable(text) is text
    assert printable_line(text) is text


def test_json_means_the_same() -> None:
    value = {"name": "a\x9bb\u202ec\x7f"}
    document = json.dumps(value, ensure_ascii=False)
    shown = printable_json(document)
    assert shown.isprintable()
    assert json.loads(shown) == value


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("plain user@host and /t/path", "plain user@host and /t/path"),
        ("GET https://u:p%40@h.org/c failed", "GET https://***@h.org/c failed"),
        ("https://u:it's@h/x", "https://***@h/x"),
        ("oci://token@h and http://h/@x", "oci://***@h and http://h/@x"),
        ("http://h.org/t/tk-12/c/noarch failed", "http://h.org/t/***/c/noarch failed"),
        ("http://h.org/t/tk-12", "http://h.org/t/***"),
        ('{"a":"http://h/t/tk","b":"x@y"}', '{"a":"http://h/t/***","b":"x@y"}'),
        ('{"a":"http://h","b":"x@y"}', '{"a":"http://h","b":"x@y"}'),
    ],
)
def test_redact(text: str, hidden: str) -> None:
    assert redact(text) == hidden
