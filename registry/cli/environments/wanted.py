"""What a build was asked for, as lines: the specification that the store and the REST API have of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LISTS = ("dependencies", "channels", "platforms")
LOCK = "exactly what a lock file names"


def write_wanted(document: Mapping[str, Any], most: int | None = None) -> list[str]:
    """A line for each part that says something, with `most` entries. Nothing in `document` is checked."""
    if "lockfile" in document:
        return [LOCK]
    lines = [_write_list(name, document.get(name), most) for name in _LISTS]
    variables = document.get("variables")
    if isinstance(variables, Mapping):
        lines.append(_write_list("variables", [f"{name}={value}" for name, value in variables.items()], most))
    if document.get("extends"):
        lines.append(f"extends: {document['extends']}")
    return [line for line in lines if line] or ["nothing"]


def _write_list(name: str, value: object, most: int | None) -> str:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return ""
    entries = [entry for each in value for entry in _write_entries(each)]
    shown = entries[:most]
    more = f" and {len(entries) - len(shown)} more" if len(shown) < len(entries) else ""
    return f"{name}: {', '.join(shown)}{more}"


def _write_entries(entry: object) -> list[str]:
    """A match spec, or those of a `pip:` part."""
    if not isinstance(entry, Mapping):
        return [str(entry)]
    parts = ((kind, each if isinstance(each, list) else [each]) for kind, each in entry.items())
    return [f"{kind}: {part}" for kind, listed in parts for part in listed]
