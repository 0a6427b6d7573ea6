"""JSON that two readers could understand differently is refused, and where it is said."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import strict_json
from storage.errors import JsonInvalid
from storage.strict_json import CONTAINERS, DEPTH, path_text, show

KEYS = st.text(max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(KEYS, each, max_size=4),
    max_leaves=20,
)


def nested(depth: int) -> bytes:
    return b'[{"a":' * (depth // 2) + b"[]" * (depth % 2) + b"0" * (depth % 2 == 0) + b"}]" * (depth // 2)


@settings(deadline=None)
@given(
    value=VALUES,
    indent=st.none() | st.integers(0, 3),
    ascii_only=st.booleans(),
    around=st.sampled_from(["", " \r\n\t"]),
)
def test_json_is_read_as_what_it_is(value: Any, indent: int | None, ascii_only: bool, around: str) -> None:
    text = around + json.dumps(value, indent=indent, ensure_ascii=ascii_only) + around
    assert strict_json.parse(text.encode()) == value


@pytest.mark.parametrize(
    ("data", "where", "problem"),
    [
        (b"", "byte 0", "it is empty"),
        (b" \n", "byte 0", "it is empty"),
        (b"\xef\xbb\xbf{}", "byte 0", "it begins with a byte order mark, which JSON must not have"),
        (b'{"a":"\xff"}', "byte 6", "it is not UTF-8"),
        (b'{"a":"\xc0\x80"}', "byte 6", "it is not UTF-8"),
        (b'"\xed\xa0\x80"', "byte 1", "it is not UTF-8"),
        (b'"\xed\xa0\xbd\xed\xb8\x80"', "byte 1", "it is not UTF-8"),
        (b'"\xf4\x90\x80\x80"', "byte 1", "it is not UTF-8"),
        ("{}".encode("utf-16"), "byte 0", "it is not UTF-8"),
        (b"NaN", "the top level", "it is NaN, which is not JSON"),
        (b'{"a":[0,Infinity]}', "a[1]", "it is Infinity, which is not JSON"),
        (b'{"a":{"b":-Infinity}}', "a.b", "it is -Infinity, which is not JSON"),
        (b'{"a":1e999}', "a", "it is a number that is too large"),
        (b"[-1e400]", "[0]", "it is a number that is too large"),
        (b'{"size":9223372036854775808}', "size", "it is 9223372036854775808: expected an integer of 64 bits, signed"),
        (b"[-9223372036854775809]", "[0]", "it is -9223372036854775809: expected an integer of 64 bits, signed"),
        (b'{"n":' + b"9" * 5000 + b"}", "n", "it is an integer of 5000 characters: expected one of 64 bits"),
        (b"9" * 4_000_000, "the top level", "it is an integer of 4000000 characters: expected one of 64 bits"),
        (b'{"a":1,"a":1}', "the top level", "it has the key 'a' twice"),
        (b'{"a":1,"\\u0061":2}', "the top level", "it has the key 'a' twice"),
        (b'{"layers":[{},{"size":1,"x":{},"size":2}]}', "layers[1]", "it has the key 'size' twice"),
        (b'{"annotations":{"":1,"":2}}', "annotations", "it has the key '' twice"),
        (b'{"a.b":{"c d":{"x":1,"x":1}}}', "['a.b']['c d']", "it has the key 'x' twice"),
        (b'{"a":NaN,"a":{"b":1,"b":2}}', "the top level", "it has the key 'a' twice"),
        (b'{"a":{"b":1,"b":NaN},"c":{"d":1,"d":2}}', "a", "it has the key 'b' twice"),
        (b'"\\ud800"', "line 1, column 2", "\\ud800 is one half of a surrogate pair"),
        (b'{"\\uDC00":1}', "line 1, column 3", "\\uDC00 is one half of a surrogate pair"),
        (b'["\xc3\xa9\\n",\n"\\\\\\ud83dx"]', "line 2, column 4", "\\ud83d is one half of a surrogate pair"),
        (b'"\\ud83d\\ud83d\\ude00"', "line 1, column 2", "\\ud83d is one half of a surrogate pair"),
        (b'"\\ude00\\ud83d"', "line 1, column 2", "\\ude00 is one half of a surrogate pair"),
        (b'"\\ud83d\\n\\ude00"', "line 1, column 2", "\\ud83d is one half of a surrogate pair"),
        (b'"\\ud83d\\\\ude00"', "line 1, column 2", "\\ud83d is one half of a surrogate pair"),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else "",
)
def test_refusals(data: bytes, where: str, problem: str) -> None:
    with pytest.raises(JsonInvalid) as caught:
        strict_json.parse(data)
    assert (caught.value.where, caught.value.problem) == (where, problem)
    assert str(caught.value) == f"invalid JSON at {where}: {problem}"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("{}".encode("utf-16-be"), "line 1"),
        (b"{} {}", "line 1"),
        (b"{}\n\n]", "line 3"),
        (b"{}\x00", "line 1"),
        (b"{} \xc2\xa0", "line 1"),
        (b'{"a":1,}', "line 1"),
        (b"[1,]", "line 1"),
        (b"[1 2]", "line 1"),
        (b"{'a':1}", "line 1"),
        (b"[}", "line 1"),
        (b"[" * 3, "line 1"),
        (b'{"a":"b', "line 1"),
        (b'"a\nb"', "line 1"),
        (b'"a\x00b"', "line 1"),
        (b'"\\x41"', "line 1"),
        (b'"\\u12"', "line 1"),
        (b'"\\u+123"', "line 1"),
        (b"// x\n{}", "line 1"),
        (b"True", "line 1"),
        (b"01", "line 1"),
        (b"+1", "line 1"),
        (b"1_0", "line 1"),
        (b"1.", "line 1"),
        ("\u0661".encode(), "line 1"),
    ],
    ids=repr,
)
def test_what_is_no_json(data: bytes, line: str) -> None:
    """The decoder's own words, which differ between versions of Python."""
    with pytest.raises(JsonInvalid) as caught:
        strict_json.parse(data)
    assert caught.value.where.startswith(f"{line}, column ")
    assert re.fullmatch(r"(?!line)[a-z].*[a-z]", caught.value.problem)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"-9223372036854775808", -(2**63)),
        (b"9223372036854775807", 2**63 - 1),
        (b"-0", 0),
        (b"1E2", 100.0),
        (b"0." + b"1" * 5000, 0.1111111111111111),
        (b"1e-999", 0.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\uD83D\\uDE00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"\\\\\\\\ud800\\u00e9"', "\\\\ud800\u00e9"),
        (b'"\\u0000\\/"', "\x00/"),
        (b'"\xef\xbb\xbf"', "\ufeff"),
        (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
        (b'{"a":{"x":1},"b":{"x":1}}', {"a": {"x": 1}, "b": {"x": 1}}),
        (b'""', ""),
        (b"null", None),
    ],
)
def test_what_only_looks_like_them_is_fine(data: bytes, value: Any) -> None:
    found = strict_json.parse(data)
    assert found == value
    assert type(found) is type(value)


class TestNesting:
    @pytest.mark.parametrize("depth", [1, 2, 3, 10, DEPTH, 200])
    def test_the_limit_is_exact(self, depth: int) -> None:
        strict_json.parse(nested(depth), depth=depth)
        with pytest.raises(JsonInvalid, match=f"nested more than {depth} levels deep"):
            strict_json.parse(nested(depth + 1), depth=depth)

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b" [\n", b'["[[",', b'{"\\"]":'])
    @pytest.mark.parametrize("count", [1_000, 50_000, 200_000])
    def test_deep_documents_are_refused_before_they_are_read(self, opening: bytes, count: int) -> None:
        with pytest.raises(JsonInvalid, match=r"levels deep|lists and objects"):
            strict_json.parse(opening * count)

    def test_the_place_is_told(self) -> None:
        data = '{"\u00e9[":"\\"[[[",\n "x": [[["]", [1]]]]}'.encode()
        assert strict_json.parse(data, depth=5)
        with pytest.raises(JsonInvalid) as caught:
            strict_json.parse(data, depth=4)
        assert caught.value.where == "line 2, column 15"

    @pytest.mark.parametrize(
        "text",
        [
            "[" * 300,
            "]" * 300,
            '"' + "[" * 300,
            '\\"' + "{" * 300,
            "\\" + "[" * 300,
            '\\\\"' + "[" * 300 + '"',
            "\\\\" * 3 + '"[',
            "a\\",
            "a\\\\",
            'a\\"',
        ],
    )
    def test_brackets_in_strings_do_not_count(self, text: str) -> None:
        for document in ({text: [text], "a": text}, [text, "[" * 300]):
            assert strict_json.parse(json.dumps(document).encode(), depth=2) == document

    @settings(deadline=None)
    @given(value=VALUES, depth=st.integers(0, 6))
    def test_it_is_the_depth_of_the_document(self, value: Any, depth: int) -> None:
        def depth_of(value: Any) -> int:
            if isinstance(value, dict | list):
                return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)
            return 0

        data = json.dumps(value, ensure_ascii=False).encode()
        if depth_of(value) <= depth:
            assert strict_json.parse(data, depth=depth) == value
        else:
            with pytest.raises(JsonInvalid, match="levels deep"):
                strict_json.parse(data, depth=depth)

    @pytest.mark.parametrize("data", [b"]" * 200_000, b"[" * 64 + b"]" * 200_000, b"[]" + b"[" * 90_000])
    def test_what_follows_the_document_is_not_looked_into(self, data: bytes) -> None:
        with pytest.raises(JsonInvalid, match=r"extra data|expecting value"):
            strict_json.parse(data)

    def test_the_number_of_containers_is_limited(self) -> None:
        fine = b"[" + b",".join([b"[]"] * (CONTAINERS - 1)) + b"]"
        assert len(strict_json.parse(fine)) == CONTAINERS - 1
        with pytest.raises(JsonInvalid, match="more than 100000 lists and objects"):
            strict_json.parse(fine[:-1] + b",{}]")


@pytest.mark.parametrize(
    "data",
    [
        b'{"' + b"k" * 1_000_000 + b'":NaN}',
        b'{"' + b"k" * 1_000_000 + b'":1,"' + b"k" * 1_000_000 + b'":2}',
        b'{"k.k.k.k.k.k":' * 60 + b"NaN" + b"}" * 60,
        b"[" + b"NaN," * 100_000 + b"1e999]",
        b'{"\\u001b[31m\\n":NaN}',
        b'{"\\u202e":1,"\\u202e":2}',
    ],
    ids=range(6),
)
def test_the_text_of_an_error_is_short_and_printable(data: bytes) -> None:
    with pytest.raises(JsonInvalid) as caught:
        strict_json.parse(data)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


@given(st.binary(max_size=60))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    agrees_with_another_reader(data)


@settings(deadline=None)
@given(value=VALUES, edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_json_is_read_or_refused(value: Any, edits: list[tuple[int, int]]) -> None:
    data = bytearray(json.dumps(value), "ascii")
    for offset, byte in edits:
        data[offset % len(data)] = byte
    agrees_with_another_reader(bytes(data))


@given(
    st.lists(
        st.sampled_from([*'{}[],:"\\ \n-.eE019', "\\u", "d83d", "de00", "true", "NaN", "\u00e9", "a"]), max_size=25
    ).map("".join)
)
def test_crumbs_of_json_are_read_or_refused(text: str) -> None:
    agrees_with_another_reader(text.encode())


def agrees_with_another_reader(data: bytes) -> None:
    try:
        found = strict_json.parse(data)
    except JsonInvalid as error:
        assert error.where  # noqa: PT017 - what is wrong is of no interest here
        return
    assert orjson.loads(data) == found
    assert not isinstance(found, float) or math.isfinite(found)


def test_paths_and_values_are_shown_as_one_would_write_them() -> None:
    assert path_text([]) == ""
    assert path_text(["layers", 2, "annotations", "org.example"]) == "layers[2].annotations['org.example']"
    assert path_text(["a b", 0]) == "['a b'][0]"
    assert [show(each) for each in (None, True, 1, 1.5, [1], {"a": 1}, "it's\n")] == [
        "null",
        "true",
        "1",
        "1.5",
        "a list",
        "an object",
        '"it\'s\\n"',
    ]
    assert len(show("x" * 10_000)) == 102
