r"""The records of a log: lines of JSON, `{"at": ..., "kind": ..., "text": ..., "data": {...}}`.

One log has two views: its texts, for people, and its events, for programs, which are all records but mere lines.
Packages, channels and solvers say what is in them, so control characters are written out, credentials hidden, and
everything is bounded.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import orjson

from storage.clock import iso
from storage.text import printable_json, printable_line, redact

LINE = "line"
"""The kind of a record that is no event."""

MOST_LINE = 4000
"""Characters of one line; what is longer is cut."""
MOST_TEXT = 1 << 20
"""Characters of one text of many lines."""
MOST_DATA = 300
"""Characters of one text in an event's data."""
MOST_FIELDS = 12
MOST_RECORD = 64 << 10
"""Bytes: more than any record has by the bounds above. A text may get twice as long when it is made printable."""

_KIND = re.compile(r"[a-z][a-z_]{0,31}")

Value = str | int | float | bool | None
Data = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """What was said `at` a time (UNIX seconds); `text` is one line, and `data` is what a program would want of it."""

    at: float
    kind: str
    text: str
    data: Mapping[str, Value]

    @property
    def is_event(self) -> bool:
        return self.kind != LINE

    def to_text(self) -> str:
        return f"{_moment(int(self.at))} {self.text}"

    def to_json(self) -> dict[str, object]:
        return {"at": self.at, "kind": self.kind, "text": self.text, "data": dict(self.data)}


def write_records(kind: str, text: str, data: Data | None = None) -> Iterator[bytes]:
    """What was just said, as lines of a log: the first line of `text` as a record of `kind`, others as mere lines."""
    at = round(time.time(), 3)
    lines = text[:MOST_TEXT].splitlines() or [""]
    if len(text) > MOST_TEXT:
        lines.append(f"... {len(text) - MOST_TEXT:,} more characters were left out")
    for number, line in enumerate(lines):
        if number == 0:
            yield _write(at, kind, line, data or {})
        else:
            yield _write(at, LINE, line, {})


def _write(at: float, kind: str, line: str, data: Data) -> bytes:
    # first redacted: of a credential that is cut nobody knows what it was
    line = printable_line(_cut(redact(line[: 4 * MOST_LINE]), MOST_LINE, len(line)))[: 2 * MOST_LINE]
    document: dict[str, object] = {"at": at, "kind": kind, "text": line}
    if data:
        document["data"] = {name: _clean(value) for name, value in list(data.items())[:MOST_FIELDS]}
    return printable_json(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE).decode()).encode()


def _clean(value: Value) -> Value:
    if not isinstance(value, str):
        return value
    return printable_line(_cut(redact(value[: 4 * MOST_DATA]), MOST_DATA, len(value)))[: 2 * MOST_DATA]


def _cut(text: str, most: int, length: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({length - most:,} more characters)"


@lru_cache(maxsize=256)
def _moment(seconds: int) -> str:
    """The time in ISO 8601; of many records it is the same."""
    return iso(seconds)


def clean_record(line: bytes, latest: float) -> bytes | None:
    """A line of a log that somebody else wrote, as `write_records` would have; None if it is no record.

    What `write_records` has written stays as it is. A record is of no time after `latest` (UNIX seconds).
    """
    for record, _ in read_records(line):
        if not 0 <= record.at <= latest:
            return None
        document: dict[str, object] = {
            "at": record.at,
            "kind": record.kind if _KIND.fullmatch(record.kind) else LINE,
            "text": _clean_again(record.text, MOST_LINE),
        }
        if isinstance(record.data, dict) and record.data:
            document["data"] = {
                _clean_again(name, MOST_DATA): _clean_again(value, MOST_DATA) if isinstance(value, str) else value
                for name, value in list(record.data.items())[:MOST_FIELDS]
                if value is None or isinstance(value, str | int | float)
            }
        return printable_json(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE).decode()).encode()
    return None


def _clean_again(text: str, most: int) -> str:
    """Text with what `printable_line` and a cut have made longer."""
    return printable_line(redact(text[: 2 * most]))[: 2 * most]


def read_records(content: bytes) -> Iterator[tuple[LogRecord, int]]:
    """The records in whole lines of a log, each with the bytes that it takes; lines that are none are left out."""
    taken = 0
    for line in content.splitlines(keepends=True):
        taken += len(line)
        try:
            found = orjson.loads(line)
            record = LogRecord(float(found["at"]), str(found["kind"]), str(found["text"]), found.get("data") or {})
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            continue
        yield record, taken
        taken = 0
