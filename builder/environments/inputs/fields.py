"""What a field of a document must be. Each function names the field by its path when it is something else."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from builder.errors import InputInvalid
from storage.errors import quote
from storage.suggestions import did_you_mean, find_near

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,60}")
_LONGEST_KEY = 60
_MOST_KEYS = 100
_KINDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def join(path: str, key: str) -> str:
    """The path of `key` in the mapping at `path`: `metadata.channels`, `variables["a b"]`."""
    if _PLAIN.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{quote(key, _LONGEST_KEY)}]"


def describe(value: object) -> str:
    """What kind of value it is, for a message."""
    return "null" if value is None else _KINDS.get(type(value), "something else")


def need_mapping(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputInvalid(path, f"it must be a mapping of names to values, but it is {describe(value)}")
    return value


def need_list(value: object, path: str, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise InputInvalid(path, f"it must be a list, but it is {describe(value)}")
    if len(value) > most:
        raise InputInvalid(path, f"it has {len(value)} entries; at most {most} are allowed")
    return value


def need_text(value: object, path: str, longest: int = 1000) -> str:
    """Text without control characters."""
    if isinstance(value, bool | int | float):
        raise InputInvalid(path, f"it must be text, but it is {describe(value)}; put it in quotation marks")
    if not isinstance(value, str):
        raise InputInvalid(path, f"it must be text, but it is {describe(value)}")
    if not value.strip():
        raise InputInvalid(path, "it is empty")
    if len(value) > longest:
        raise InputInvalid(path, f"it has {len(value)} characters; at most {longest} are allowed")
    if not value.isprintable():
        raise InputInvalid(path, "it has a control character or a line break")
    return value


def take_text(document: Mapping[str, Any], key: str, path: str = "", longest: int = 1000) -> str | None:
    """Text that may be missing or null."""
    value = document.get(key)
    return None if value is None else need_text(value, join(path, key), longest)


def need(document: Mapping[str, Any], key: str, path: str = "") -> Any:
    """The value of a key that must be there."""
    if key not in document:
        raise InputInvalid(join(path, key), "it is missing")
    return document[key]


def refuse_near(document: Mapping[str, Any], key: str, known: Collection[str]) -> None:
    """Raise InputInvalid if `key`, which has to be there, is written in another way: a slip is told as a slip."""
    if key not in document:
        others = [each for each in document if isinstance(each, str) and each not in known][:_MOST_KEYS]
        if near := find_near(key, others):
            raise InputInvalid(join("", near[0]), f"unknown key; did you mean {key}?")


def refuse_others(document: Mapping[str, Any], known: Collection[str], path: str) -> None:
    """Raises InputInvalid for a key that is not known."""
    for key in document:
        if key not in known:
            meant = did_you_mean(find_near(key, known))
            raise InputInvalid(join(path, key), f"unknown key; the keys are {', '.join(known)}{meant}")


def warn_of_others(document: Mapping[str, Any], known: Collection[str], path: str, warnings: list[str]) -> None:
    """Note each key that is not known, and therefore ignored (CEP 24). Raises InputInvalid if they are too many."""
    if len(document) > _MOST_KEYS:
        raise InputInvalid(path, f"it has {len(document)} keys; the known ones are {', '.join(known)}")
    for key in document:
        if key not in known:
            meant = did_you_mean(find_near(key, known))
            warnings.append(f"{join(path, key)}: unknown key, which is ignored{meant}")
