"""JSON from outside, read so that no other reader can understand it differently.

RFC 8259 leaves to every reader which of two equal keys counts, what a half of a surrogate pair or 1e999 is, and how
deep a document may go; Python's takes NaN on top. A registry hands on the very bytes it has judged, so all of that is
refused here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

from storage.errors import JsonInvalid

DEPTH = 64
"""How many lists and objects may be inside one another: manifests have four."""

CONTAINERS = 100_000
"""How many lists and objects there may be. Each costs memory and time for two bytes; 4 MiB of descriptors have half."""

LONGEST_SHOWN = 100

_LONGEST_INTEGER = len(str(-(2**63)))
_NO_BRACKETS = bytes(each for each in range(256) if each not in b"[]{}")
_STEPS = [{"[": 1, "{": 1, "]": -1, "}": -1}.get(chr(each), 0) for each in range(256)]
_ANY_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# every backslash is met once, so that the second of two is never taken for the beginning of an escape
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{0,2})|\\.",
    re.DOTALL,
)
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,60}")


def parse(data: bytes, *, depth: int = DEPTH) -> Any:
    """The document that `data` is, made of dict, list, str, int (64 bits, signed), float (finite), bool and None.

    `depth` counts lists and objects inside one another; the decoder recurses on it, so at most a few hundred. Raises
    JsonInvalid.
    """
    text = _decode(data)
    _check_nesting(data, depth)
    _check_surrogates(text)
    hooks = _Hooks()
    decoder = json.JSONDecoder(
        object_pairs_hook=hooks.pairs,
        parse_int=hooks.integer,
        parse_float=hooks.number,
        parse_constant=hooks.constant,
    )
    try:
        document = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise JsonInvalid(f"line {error.lineno}, column {error.colno}", _plain(error.msg)) from None
    if hooks.refused:
        found = _find(document)
        assert found is not None
        raise JsonInvalid(path_text(reversed(found[0])) or "the top level", found[1].problem)
    return document


def path_text(path: Iterable[str | int]) -> str:
    """Keys and positions as one would write them: `layers[2].annotations['org.example']`; empty for the document."""
    text = ""
    for step in path:
        if isinstance(step, str) and _PLAIN_KEY.fullmatch(step):
            text += f".{step}"
        else:
            text += f"[{show(step)}]"
        if len(text) > 3 * LONGEST_SHOWN:
            return text.removeprefix(".") + " and deeper"
    return text.removeprefix(".")


def show(value: object) -> str:
    """A value for an error's text: of a bounded length, and on one line."""
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST_SHOWN else value[: LONGEST_SHOWN - 3] + "...")
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return json.dumps(value)


def _decode(data: bytes) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise JsonInvalid("byte 0", "it begins with a byte order mark, which JSON must not have")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise JsonInvalid(f"byte {error.start}", "it is not UTF-8") from None
    if not data.strip():
        raise JsonInvalid("byte 0", "it is empty")
    return text


def _check_nesting(data: bytes, depth: int) -> None:
    if data.count(b"[") + data.count(b"{") <= depth:
        return
    # blanks of the same length, so that every quote that is left begins or ends a string, and offsets stay
    plain = data.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    outside = plain.split(b'"')[::2]
    brackets = b"".join(outside).translate(None, _NO_BRACKETS)
    if brackets.count(b"[") + brackets.count(b"{") > CONTAINERS:
        raise JsonInvalid("the top level", f"it has more than {CONTAINERS} lists and objects")
    for position, level in enumerate(accumulate(map(_STEPS.__getitem__, brackets))):
        if level > depth:
            before = data[: _offset_of_bracket(plain, position)].decode()
            raise JsonInvalid(_place_after(before), f"it is nested more than {depth} levels deep")
        if level <= 0:  # the document's end; the decoder refuses what follows without looking into it
            return


def _offset_of_bracket(plain: bytes, position: int) -> int:
    """Where bracket number `position` of those outside strings is."""
    offset = 0
    for number, part in enumerate(plain.split(b'"')):
        if number % 2 == 0:
            count = len(part.translate(None, _NO_BRACKETS))
            if position < count:
                return offset + next(islice(re.finditer(rb"[\[\]{}]", part), position, None)).start()
            position -= count
        offset += len(part) + 1
    raise AssertionError(position)


def _check_surrogates(text: str) -> None:
    if not _ANY_SURROGATE.search(text):
        return
    for escape in _ESCAPE.finditer(text):
        if escape["half"]:
            place = _place_after(text[: escape.start()])
            raise JsonInvalid(place, f"{escape['half']} is one half of a surrogate pair")


def _place_after(before: str) -> str:
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return f"line {line}, column {column}"


def _plain(message: str) -> str:
    """json's message as the end of a sentence."""
    return message[0].lower() + message[1:].removesuffix(" at").removesuffix(": ")


@dataclass(frozen=True, slots=True)
class _Refused:
    """Is put where the refused value was: the hooks know what is wrong, only the document knows where."""

    problem: str


class _Hooks:
    def __init__(self) -> None:
        self.refused = False

    def _refuse(self, problem: str) -> _Refused:
        self.refused = True
        return _Refused(problem)

    def _refuse_value(self, problem: str) -> _Refused | None:
        # a million of them need not all be told; an object is, as what was refused may be in a value it had twice
        return None if self.refused else self._refuse(problem)

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Refused:
        document = dict(pairs)
        if len(document) == len(pairs):
            return document
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                return self._refuse(f"it has the key {show(key)} twice")
            seen.add(key)
        raise AssertionError(pairs)

    def integer(self, text: str) -> int | _Refused | None:
        # longer ones are not even converted: that takes time quadratic in their length
        if len(text) > _LONGEST_INTEGER:
            return self._refuse_value(f"it is an integer of {len(text)} characters: expected one of 64 bits")
        value = int(text)
        if -(2**63) <= value < 2**63:
            return value
        return self._refuse_value(f"it is {text}: expected an integer of 64 bits, signed")

    def number(self, text: str) -> float | _Refused | None:
        value = float(text)
        return value if math.isfinite(value) else self._refuse_value("it is a number that is too large")

    def constant(self, text: str) -> _Refused | None:
        return self._refuse_value(f"it is {text}, which is not JSON")


def _find(value: object) -> tuple[list[str | int], _Refused] | None:
    """The first refused value, and the way to it, its last step first."""
    if isinstance(value, _Refused):
        return [], value
    children: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for step, child in children:
        if found := _find(child):
            found[0].append(step)
            return found
    return None
