"""Prefix replacement against a short reference, for every division of the input."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.packages.prefix import Mode, replace, replace_chunks

OLD, NEW = "/old/pre", "/new"
ENCODINGS = {"utf-8": 1, "utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}

_pieces = [text.encode(encoding) for encoding in ENCODINGS for text in (OLD, OLD[:5], OLD[3:], "/", "x", "\0", NEW)]
_data = st.lists(st.one_of(st.sampled_from(_pieces), st.binary(max_size=5)), max_size=25).map(b"".join)
_cuts = st.lists(st.integers(0, 200), max_size=12)


def binary_reference(data: bytes) -> bytes:
    """conda's `binary_replace`, except that the end of the file ends a string, as in rattler."""
    for encoding, width in ENCODINGS.items():
        old, new, zeros = OLD.encode(encoding), NEW.encode(encoding), bytes(width)

        def padded(match: re.Match[bytes], old: bytes = old, new: bytes = new) -> bytes:
            return match[0].replace(old, new).ljust(len(match[0]), b"\0")

        pattern = re.escape(old) + b"(?:(?!" + re.escape(zeros) + b").)*(?:" + re.escape(zeros) + rb"|\Z)"
        data = re.sub(pattern, padded, data, flags=re.DOTALL)
    return data


def text_reference(data: bytes) -> bytes:
    for encoding in ENCODINGS:
        data = data.replace(OLD.encode(encoding), NEW.encode(encoding))
    return data


def divided(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


@given(_data, _cuts)
def test_binary_equals_the_reference_and_keeps_the_length(data: bytes, cuts: list[int]) -> None:
    result = b"".join(replace_chunks(divided(data, cuts), "binary", OLD, NEW))
    assert result == binary_reference(data)
    assert len(result) == len(data)


@given(_data, _cuts)
def test_text_equals_the_reference(data: bytes, cuts: list[int]) -> None:
    if not data.startswith(b"#!"):
        assert b"".join(replace_chunks(divided(data, cuts), "text", OLD, NEW)) == text_reference(data)


@given(
    st.sampled_from(["/aa", "/a/a", "aa"]),
    st.lists(st.sampled_from([b"a", b"/", b"\0"]), max_size=40).map(b"".join),
    _cuts,
)
def test_placeholders_that_overlap_themselves(old: str, data: bytes, cuts: list[int]) -> None:
    for mode in ("text", "binary"):
        whole = replace(data, mode, old, "b")
        assert b"".join(replace_chunks(divided(data, cuts), mode, old, "b")) == whole
    plain = data.replace(b"\0", b"")  # with NULs it may be UTF-16
    assert replace(plain, "text", old, "b") == plain.replace(old.encode(), b"b")


@given(
    st.sampled_from([b"#!/old/pre/bin/python\n", b"#!/old/pre/" + b"long" * 40 + b" -x\n", b"#! /x", b"#"]),
    _data,
    _cuts,
)
def test_a_first_line_in_pieces(line: bytes, data: bytes, cuts: list[int]) -> None:
    whole = replace(line + data, "text", OLD, NEW)
    assert b"".join(replace_chunks(divided(line + data, cuts), "text", OLD, NEW)) == whole


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a/old/pre/lib\0b", b"a/new/lib\0\0\0\0\0b"),
        (b"/old/pre:/old/pre\0|", b"/new:/new\0\0\0\0\0\0\0\0\0|"),
        (b"/old/pre at the end", b"/new at the end\0\0\0\0"),
        (b"/old/pr\0e", b"/old/pr\0e"),
    ],
)
def test_binary_examples(data: bytes, expected: bytes) -> None:
    assert replace(data, "binary", OLD, NEW) == expected


@pytest.mark.parametrize(
    ("prefix", "line", "expected"),
    [
        ("/new", b"#!/old/pre/bin/perl -w\nx", b"#!/new/bin/perl -w\nx"),
        ("/n" * 70, b"#!/old/pre/bin/perl -w\nx", b"#!/usr/bin/env perl -w\nx"),
        (
            "/n" * 70,
            b"#!/old/pre/bin/python3.11 -u\n/old/pre",
            b"#!/bin/sh\n'''exec' \"" + b"/n" * 70 + b'/bin/python3.11" -u "$0" "$@" #\'\'\'\n' + b"/n" * 70,
        ),
        ("/a b", b"#!/old/pre/bin/perl\n", b"#!/usr/bin/env perl\n"),
        ("/a b", b"#!/bin/sh\n/old/pre", b"#!/bin/sh\n/a b"),
        ("/new", b"#!/old/pre/bin/python", b"#!/new/bin/python"),
    ],
)
def test_first_lines(prefix: str, line: bytes, expected: bytes) -> None:
    assert replace(line, "text", OLD, prefix) == expected


def test_a_prefix_that_contains_the_placeholder_is_put_in_once() -> None:
    assert replace(b"#!/opt/bin/sh\n/opt/lib", "text", "/opt", "/opt/conda") == b"#!/opt/conda/bin/sh\n/opt/conda/lib"


@pytest.mark.parametrize("mode", ["binary"])
def test_a_longer_prefix_does_not_fit_into_a_binary(mode: Mode) -> None:
    with pytest.raises(ValueError, match="longer"):
        replace(b"", mode, "/short", "/much/longer")
