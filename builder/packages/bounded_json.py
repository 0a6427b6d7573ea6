"""JSON from packages, with its size and its number of values checked before it is parsed.

Two bytes of a document can take a hundred bytes of memory once parsed, so a limit on bytes alone bounds nothing.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_SMALL = 1 << 20
"""Bytes up to which a document may have any number of values."""

_LARGE = 8 << 20
"""Bytes above which Python's own decoder parses, not orjson. orjson first allocates twelve times the document's size;
Python's decoder takes half as long again on objects of strings."""

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


class JsonRefused(ValueError):
    """Raised for a document that cannot or may not be parsed; the text says why."""


def load(content: bytes, *, values: int) -> Any:
    """Parse a document of at most about `values` values. Raises JsonRefused."""
    if len(content) > _SMALL:
        count = content.count(b",") + content.count(b"[") + content.count(b"{")
        if count > values:
            raise JsonRefused(f"has {count} values; at most {values} are allowed")
    return load_trusted(content)


def load_trusted(content: bytes) -> Any:
    """Parse a document of any number of values. Raises JsonRefused."""
    try:
        if len(content) <= _LARGE:
            return orjson.loads(content)
        if len(_HALF.findall(content)) != 2 * len(_PAIR.findall(content)):
            raise JsonRefused("is not JSON (it has one half of a surrogate pair)")
        return json.loads(content)
    except RecursionError:
        raise JsonRefused("is not JSON (it is nested too deep)") from None
    except ValueError as error:
        if isinstance(error, JsonRefused):
            raise
        raise JsonRefused(f"is not JSON ({error})") from None
