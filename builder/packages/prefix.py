"""Replace the prefix that a package was built with by the one that it is installed under.

In a text file every occurrence is replaced, and a first line too long for the kernel is rewritten. In a binary file
every occurrence in a NUL-terminated string is replaced, and the string is padded with NULs so that nothing behind it
moves. UTF-8 is handled like in rattler's `install/link.rs`. UTF-16 and UTF-32 in both byte orders are handled too, in
both modes, like in conda's `core/portability.py`. A string that ends with the file counts as terminated (as in rattler;
conda skips it).

A replacer takes a file in pieces of any size and gives the same bytes however the file is divided. It holds back less
than twice a placeholder's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, Protocol

Mode = Literal["text", "binary"]

MAX_SHEBANG = 127
"""Bytes of the longest first line that Linux before 5.1 accepts whole."""

_FIRST_LINE_LIMIT = 1 << 16
_MOST_OWED = 16 << 20
"""Bytes by which a string may become shorter."""
_ENCODINGS = (("utf-8", 1), ("utf-16-le", 2), ("utf-16-be", 2), ("utf-32-le", 4), ("utf-32-be", 4))
_SHEBANG = re.compile(rb"(#! *(/(?:\\ |[^ \n\r\t])*)([^\n]*))")
_PYTHON = re.compile(rb"python(?:\d+(?:\.\d+)?)?")


class LongString(Exception):
    """A string in a binary file that would need more NULs for padding than may be held; the text says so."""


class Replacer(Protocol):
    def feed(self, data: bytes) -> bytes:
        """Take the next piece and return the part of the result that is certain by now."""

    def finish(self) -> bytes:
        """Return the rest of the result."""


def make_replacer(mode: Mode, placeholder: str, prefix: str) -> Replacer:
    """Make a replacer for one file.

    Raises ValueError for a binary file if the prefix is longer than the placeholder.
    """
    encoded = [(placeholder.encode(encoding), prefix.encode(encoding), width) for encoding, width in _ENCODINGS]
    if mode == "binary":
        return _Chain([_InStrings(old, new, width) for old, new, width in encoded])
    (old, new, _), *others = encoded
    return _Chain([_Text(old, new), *(_Everywhere(old, new) for old, new, _ in others)])


def replace(data: bytes, mode: Mode, placeholder: str, prefix: str) -> bytes:
    """Replace the prefix in a whole file at once; see `make_replacer`."""
    steps = make_replacer(mode, placeholder, prefix)
    return steps.feed(data) + steps.finish()


def replace_chunks(chunks: Iterable[bytes], mode: Mode, placeholder: str, prefix: str) -> Iterator[bytes]:
    """Replace the prefix in a file that comes in pieces; see `make_replacer`."""
    steps = make_replacer(mode, placeholder, prefix)
    for chunk in chunks:
        yield steps.feed(chunk)
    yield steps.finish()


class _Chain:
    """Runs replacers one after the other, each over the whole result of the one before."""

    def __init__(self, steps: list[Replacer]) -> None:
        self._steps = steps

    def feed(self, data: bytes) -> bytes:
        for step in self._steps:
            data = step.feed(data)
        return data

    def finish(self) -> bytes:
        rest = b""
        for step in self._steps:
            rest = step.feed(rest) + step.finish()
        return rest


class _Everywhere:
    """Replaces every `old` by `new`."""

    def __init__(self, old: bytes, new: bytes) -> None:
        self._old, self._new = old, new
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        cut = max(len(data) - len(self._old) + 1, _find_end(data, self._old), 0)
        self._held = data[cut:]
        return data[:cut].replace(self._old, self._new)

    def finish(self) -> bytes:
        rest, self._held = self._held, b""
        return rest.replace(self._old, self._new)


def _find_end(data: bytes, old: bytes) -> int:
    """Return where the last occurrence ends, counting from the left without overlaps."""
    end = 0
    while (start := data.find(old, end)) != -1:
        end = start + len(old)
    return end


class _InStrings:
    """Replaces in strings that end with `width` NULs, and keeps the length of each string."""

    def __init__(self, old: bytes, new: bytes, width: int) -> None:
        if len(new) > len(old):
            raise ValueError("the prefix is longer than the placeholder in a binary file")
        self._old, self._new = old, new
        self._zeros = bytes(width)
        self._held = b""
        self._inside = False
        self._owed = 0
        self._seen = b""
        """The last bytes consumed of the current string: a terminator may start in them."""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        out: list[bytes] = []
        position = 0
        while True:
            if not self._inside:
                start = data.find(self._old, position)
                if start == -1:
                    break
                out += (data[position:start], self._new)
                position = start + len(self._old)
                self._owed = len(self._old) - len(self._new)
                self._seen = b""
                self._inside = True
            end = self._end_strings(data, position)
            if end == -1:
                break
            self._rewrite(out, data[position:end])
            out.append(bytes(self._owed))
            position = end
            self._inside = False
        return self._hold(out, data, position)

    def finish(self) -> bytes:
        out: list[bytes] = []
        if self._inside:
            self._rewrite(out, self._held)
            out.append(bytes(self._owed))
        else:
            out.append(self._held)
        self._held, self._inside = b"", False
        return b"".join(out)

    def _end_strings(self, data: bytes, position: int) -> int:
        """Return the end of the current string's terminator, or -1 if it has not come yet."""
        for length in range(len(self._zeros) - 1, 0, -1):
            if self._seen.endswith(bytes(length)) and data.startswith(bytes(len(self._zeros) - length), position):
                return position + len(self._zeros) - length
        start = data.find(self._zeros, position)
        return -1 if start == -1 else start + len(self._zeros)

    def _rewrite(self, out: list[bytes], string: bytes) -> None:
        self._owed += (len(self._old) - len(self._new)) * string.count(self._old)
        if self._owed > _MOST_OWED:
            raise LongString(f"has a string that would get {self._owed} bytes shorter under another prefix")
        out.append(string.replace(self._old, self._new))

    def _hold(self, out: list[bytes], data: bytes, position: int) -> bytes:
        cut = max(len(data) - len(self._old) + 1, position)
        if self._inside:
            cut = max(cut, position + _find_end(data[position:], self._old))
            self._rewrite(out, data[position:cut])
            self._seen = (self._seen + data[position:cut])[-len(self._zeros) :]
        else:
            out.append(data[position:cut])
        self._held = data[cut:]
        return b"".join(out)


class _Text:
    """Replaces every occurrence; in a first line that names an interpreter, with `rewrite_shebang`."""

    def __init__(self, old: bytes, new: bytes) -> None:
        self._old, self._new = old, new
        self._rest = _Everywhere(old, new)
        self._first: bytes | None = b""

    def feed(self, data: bytes) -> bytes:
        if self._first is None:
            return self._rest.feed(data)
        self._first += data
        if not self._first.startswith(b"#!"[: len(self._first)]):
            return self._release(b"", self._first)
        line, newline, rest = self._first.partition(b"\n")
        if newline:
            return self._release(rewrite_shebang(line, self._old, self._new), newline + rest)
        return self._release(b"", self._first) if len(self._first) > _FIRST_LINE_LIMIT else b""

    def finish(self) -> bytes:
        return self._release(b"", self._first or b"") + self._rest.finish()

    def _release(self, line: bytes, rest: bytes) -> bytes:
        self._first = None
        return line + self._rest.feed(rest)


def rewrite_shebang(line: bytes, old: bytes, new: bytes) -> bytes:
    """Put a `#!` line under the new prefix. A line that the kernel would not accept uses env, or sh for a python."""
    if b" " in new:
        return _use_env(line).replace(old, new) if old in line else line
    replaced = line.replace(old, new)
    return replaced if len(replaced) <= MAX_SHEBANG else _use_env(replaced)


def _use_env(line: bytes) -> bytes:
    match = _SHEBANG.fullmatch(line)
    if not match:
        return line
    path, options = match[2], match[3]
    name = path.rpartition(b"/")[2]
    if _PYTHON.fullmatch(name):
        return b"#!/bin/sh\n'''exec' \"%s\"%s \"$0\" \"$@\" #'''" % (path, options)
    return b"#!/usr/bin/env %s%s" % (name, options)
