"""How deny lists are written: an entry a line, or JSON.

An answer of a server that has no list may be a word or two, which could be the name of a package and a version. So an
entry of plain words counts only where something says that it is one: a reason, or the list's first line,

    # condery deny list
    # condery deny list, 120 entries

of which the second also says that the list is whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from builder.policy.denial import Denial
from builder.policy.rules import read_denial
from storage import strict_json
from storage.errors import JsonInvalid

MOST_LINES = 200_000
"""Entries of a list."""

_MARK = re.compile(r"#\s*condery deny list(?:,\s*(?P<count>[0-9]{1,9}) entr(?:y|ies))?\s*", re.IGNORECASE)
_PLAIN = re.compile(r"[^#<>=!~|*\[:]+")


def parse_deny_list(content: bytes, alias: str) -> tuple[Denial, ...]:
    """The entries of a list: a line each, or a JSON array. Raises ValueError, which says where it is wrong.

    A list without a line is broken, since that is what a failed write leaves; `[]` or a comment denies nothing.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not text.strip():
        raise ValueError("it is empty; a list that denies nothing is a comment, or []")
    entries = list(_parse_array(content) if text.lstrip().startswith("[") else _parse_lines(text))
    if len(entries) > MOST_LINES:
        raise ValueError(f"it has {len(entries)} entries; at most {MOST_LINES} are allowed")
    if (said := _read_mark(text)) and said["count"] and int(said["count"]) != len(entries):
        raise ValueError(f"it has {len(entries)} entries, and says that it has {said['count']}")
    denials = []
    for where, entry in entries:
        try:
            denials.append(read_denial(entry, alias))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    return tuple(denials)


def _parse_array(content: bytes) -> Iterator[tuple[str, object]]:
    try:
        document = strict_json.parse(content)
    except JsonInvalid as error:
        raise ValueError(str(error)) from None
    for number, entry in enumerate(document, 1):
        yield f"entry {number}", entry


def says_its_length(content: bytes) -> bool:
    """Whether a list that was parsed says how many entries it has."""
    mark = _read_mark(content.decode())
    return mark is not None and mark["count"] is not None


def _read_mark(text: str) -> re.Match[str] | None:
    return _MARK.fullmatch(text.lstrip("\ufeff").lstrip().partition("\n")[0])


def _parse_lines(text: str) -> Iterator[tuple[str, object]]:
    marked = _read_mark(text) is not None
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if not marked and _PLAIN.fullmatch(entry):
            raise ValueError(
                f"line {number}: {entry[:60]!r} could be what a server says that has no list; write the reason after "
                "#, or # condery deny list as the first line"
            )
        if not entry.startswith("{"):
            yield f"line {number}", entry
            continue
        try:
            yield f"line {number}", strict_json.parse(entry.encode())
        except JsonInvalid as error:
            raise ValueError(f"line {number}: {error}") from None
