"""JSON from outside, read so that no other reader can understand it differently.

RFC 8259 leaves it to each reader which of two equal keys counts, what half a surrogate pair or 1e999 means, and how
deep a document may be nested; Python also accepts NaN. A registry passes on the very bytes that it has checked, so it
refuses all of these.
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
"""The deepest nesting of lists and objects; manifests have four levels."""

CONTAINERS = 100_000
"""The most lists and objects. Each costs memory and time for two bytes; 4 MiB of descriptors have half as many."""

LONGEST_SHOWN = 100

_LONGEST_INTEGER = len(str(-(2**63)))
_NO_BRACKETS = bytes(each for each in range(256) if each not in b"[]{}")
_STEPS = [{"[": 1, "{": 1, "]": -1, "}": -1}.get(chr(each), 0) for each in range(256)]
_ANY_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# the pattern consumes every backslash, so that the second of two never starts an escape
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{0,2})|\\.",
    re.DOTALL,
)
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,60}")


def parse(data: bytes, *, depth: int = DEPTH) -> Any:
    """Parse `data` into dict, list, str, int (64 bits, signed), float (finite), bool and None.

    `depth` limits the nesting of lists and objects. The decoder recurses, so it can be a few hundred at most. Raises
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
    """Keys and positions as people write them: `layers[2].annotations['org.example']`; empty for the whole document."""
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
    """A value for an error message: short, and on one line."""
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
    # replaced by blanks, so that every remaining quote begins or ends a string, and offsets stay the same
    plain = data.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    outside = plain.split(b'"')[::2]
    brackets = b"".join(outside).translate(None, _NO_BRACKETS)
    if brackets.count(b"[") + brackets.count(b"{") > CONTAINERS:
        raise JsonInvalid("the top level", f"it has more than {CONTAINERS} lists and objects")
    for position, level in enumerate(accumulate(map(_STEPS.__getitem__, brackets))):
        if level > depth:
            before = data[: _offset_of_bracket(plain, position)].decode()
            raise JsonInvalid(_place_after(before), f"it is nested more than {depth} levels deep")
        if level <= 0:  # the document ends here; the decoder refuses anything after it without parsing that
            return


def _offset_of_bracket(plain: bytes, position: int) -> int:
    """The offset of bracket number `position` among those outside strings."""
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
    """The decoder's message as the end of a sentence."""
    return message[0].lower() + message[1:].removesuffix(" at").removesuffix(": ")


@dataclass(frozen=True, slots=True)
class _Refused:
    """Takes the place of a refused value: the hooks know what is wrong, but only the document shows where."""

    problem: str


class _Hooks:
    def __init__(self) -> None:
        self.refused = False

    def _refuse(self, problem: str) -> _Refused:
        self.refused = True
        return _Refused(problem)

    def _refuse_value(self, problem: str) -> _Refused | None:
        # one of a million is enough to report; of objects all, since a repeated key may have dropped a refused value
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
        # a longer one is not converted: that would take time quadratic in its length
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
    """The first refused value, and the path to it, its last step first."""
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
