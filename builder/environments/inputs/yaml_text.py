"""YAML from outside, read into plain values within bounds.

Only what JSON has too comes out: mappings with text as keys, lists, text, numbers, true, false and null. What two
readers could understand differently is refused: equal keys, anchors and aliases, tags, several documents. Plain scalars
follow YAML 1.2's core schema, as conda reads them (`yes` is text, `1:30` is text), and dates stay text.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from builder.environments.inputs.fields import join
from builder.errors import InputInvalid
from storage.errors import quote

DEPTH = 20
"""The deepest nesting of lists and mappings. Lock files have six levels."""
MOST_VALUES = 1_000_000
"""Scalars, lists and mappings. A lock of a thousand packages has thirty thousand."""
_SHOWN = 200

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
"""In its only spelling: `007` and `0x10` stay text, whose spelling may matter."""
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?")
_BEHIND = re.compile(r"[ \t]*(?:,[ \t]*)?(?<=[ \t])#([^\r\n]*\[[^\r\n]*)")
_BEHIND_KEY = re.compile(r"[ \t]*:[ \t]*(?<=[ \t])#([^\r\n]*\[[^\r\n]*)")
_TAG = "tag:yaml.org,2002:"


def read_yaml(text: str, comments: dict[str, list[str]] | None = None) -> Any:
    """Parse one document. Raises InputInvalid, with the path and the line of what is wrong.

    `comments` gets those that stand behind a value, or behind a key before its value, in the same line and have
    brackets, by the value's path.
    """
    noted = comments if "#" in text and "[" in text else None
    try:
        return _Reader(yaml.parse(text, Loader=yaml.CSafeLoader), text, noted).document()
    except yaml.YAMLError as error:
        raise InputInvalid("", f"it is not YAML: {_describe(error)}") from None


def _describe(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"{problem[:_SHOWN]}{where}"


class _Reader:
    """Turns events of libyaml into values."""

    def __init__(self, events: Any, text: str, comments: dict[str, list[str]] | None) -> None:
        self._events = iter(events)
        self._text = text
        self._comments = comments
        self._values = 0

    def document(self) -> Any:
        kind = self._next()
        if not isinstance(kind, yaml.StreamStartEvent):
            raise InputInvalid("", "it is not YAML")
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._value(self._next(), "", 0)
        self._next()
        if not isinstance(self._next(), yaml.StreamEndEvent):
            raise InputInvalid("", "it has several YAML documents (---); write one")
        return value

    def _next(self) -> Any:
        return next(self._events)

    def _value(self, event: Any, path: str, depth: int) -> Any:
        self._values += 1
        if self._values > MOST_VALUES:
            raise InputInvalid(path, f"it has more than {MOST_VALUES} values")
        if isinstance(event, yaml.AliasEvent):
            raise InputInvalid(path, f"an alias (*{str(event.anchor)[:_SHOWN]}) is not supported; write the value out")
        if event.anchor is not None:
            raise InputInvalid(path, f"an anchor (&{event.anchor[:_SHOWN]}) is not supported; write the value out")
        if isinstance(event, yaml.ScalarEvent):
            if event.style not in ("|", ">"):
                self._note(_BEHIND, event, path)
            return _read_scalar(event, path)
        if depth >= DEPTH:
            raise InputInvalid("", f"it is nested deeper than {DEPTH} levels")
        if event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            raise InputInvalid(path, f"the tag {quote(event.tag)} is not supported")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path, depth + 1, in_flow=bool(event.flow_style))
        return self._mapping(path, depth + 1, in_flow=bool(event.flow_style))

    def _note(self, pattern: re.Pattern[str], event: Any, path: str) -> None:
        """Note the comment behind an event, if there is one."""
        if self._comments is not None and (match := pattern.match(self._text, event.end_mark.index)):
            self._comments.setdefault(path, []).append(match[1])

    def _list(self, path: str, depth: int, *, in_flow: bool) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            values.append(self._value(event, f"{path}[{len(values)}]", depth))
        if in_flow:
            # the end of a block is where the next line begins
            self._note(_BEHIND, event, path)
        return values

    def _mapping(self, path: str, depth: int, *, in_flow: bool) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None:
                raise InputInvalid(path, f"a key in line {line} is not text")
            # keys are text however they look: a variable may be called 1 or no
            key = event.value
            place = join(path, key)
            if key in values:
                raise InputInvalid(place, f"it is there twice, again in line {line}; keep one")
            if key == "<<" and event.implicit[0]:
                raise InputInvalid(place, "merging mappings (<<) is not supported; write the values out")
            self._note(_BEHIND_KEY, event, place)
            values[key] = self._value(self._next(), place, depth)
        if in_flow:
            self._note(_BEHIND, event, path)
        return values


def _read_scalar(event: Any, path: str) -> Any:
    text: str = event.value
    if event.tag == f"{_TAG}str" or not event.implicit[0]:
        if event.tag not in (None, "!", f"{_TAG}str"):
            raise InputInvalid(path, f"the tag {quote(event.tag)} is not supported")
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        return int(text)
    if "." in text and _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text
