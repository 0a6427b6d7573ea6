"""JSON of packages: how large it is, and of how many values, is known before anything is made of it.

Two bytes of a document can take a hundred of memory, so its bytes alone bound nothing.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_SMALL = 1 << 20
"""Bytes of a document that may have any number of values."""

_LARGE = 8 << 20
"""Bytes from which orjson, which takes twelve times as many before it begins, is not asked. Python's own decoder takes
half as long again for objects of strings."""

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


class JsonRefused(ValueError):
    """A document that is not read; the text says why."""


def load(content: bytes, *, values: int) -> Any:
    """The document that `content` is, with at most about `values` values. Raises JsonRefused."""
    if len(content) > _SMALL:
        count = content.count(b",") + content.count(b"[") + content.count(b"{")
        if count > values:
            raise JsonRefused(f"has {count} values, where at most {values} are allowed")
    return load_trusted(content)


def load_trusted(content: bytes) -> Any:
    """The document that `content` is, whatever it holds; raises JsonRefused."""
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
