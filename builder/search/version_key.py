"""Versions of conda packages as texts whose order is that of the versions (conda's `VersionOrder`, CEP 29).

A database sorts by them without knowing versions. `builder.policy.versions` takes what is missing at the end of a
version for zeros, so in a key every part says how many zeros come before it, and the end is what zeros would be:

    1.2a1  <  1.2 = 1.2.0  <  1.2.0.1
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from builder.policy.versions import Part, Version

_LESS, _END, _GREATER = '"#$'
"""What begins a part that is less than a zero, the end, and a part that is greater than a zero."""
_DONE = "!"
"""The end of a word; less than all that words have in them."""
_POST = "z"
"""Greater than what any number begins with."""
_LONG = "y"
"""What a number of more digits than have a character of their own begins with."""
_FIRST, _LAST = 0x30, 0x78
_SPAN = _LAST - _FIRST


def make_version_key(version: Version) -> str:
    """Printable ASCII. The keys of versions that are equal, such as 1.0 and 1.0.0, are equal."""
    return _write_segments(version.release) + _write_segments(version.local)


def _write_segments(segments: Iterable[Sequence[Part]]) -> str:
    written, zeros = [], 0
    for segment in segments:
        text, mark = _write_segment(segment)
        if mark == _END:
            zeros += 1
            continue
        written.append(mark + _count(zeros, mark) + text)
        zeros = 0
    return "".join(written) + _END


def _write_segment(parts: Sequence[Part]) -> tuple[str, str]:
    """The segment's text, and what it is to zero: less, equal, or greater, as its first part that is not zero is."""
    written, zeros, first = [], 0, _END
    for kind, number, word in parts:
        mark = _LESS if kind == 0 else _GREATER if number else _END
        if mark == _END:
            zeros += 1
            continue
        first = mark if first == _END else first
        written.append(mark + _count(zeros, mark) + (f"{word}{_DONE}" if kind == 0 else _write_number(number)))
        zeros = 0
    return "".join(written) + _END, first


def _count(zeros: int, mark: str) -> str:
    """The more zeros, the nearer to zero is what follows them. Beyond some dozens they are not told apart."""
    zeros = min(zeros, _SPAN)
    return chr(_FIRST + zeros if mark == _LESS else _LAST - zeros)


def _write_number(number: float) -> str:
    if number == float("inf"):
        return _POST
    digits = str(number)
    if len(digits) <= _SPAN:
        return chr(_FIRST + len(digits)) + digits
    return f"{_LONG}{len(digits):03}{digits}"
