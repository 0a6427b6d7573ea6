"""Writes tar members without an object per file (POSIX.1-1988 ustar and pax).

`tarfile` takes 25 µs per header, and a package has thousands; here headers are filled into a template.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

BLOCK = 512
END = bytes(2 * BLOCK)
"""The end of an archive: two blocks of NULs."""

FILE, HARD_LINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"

EARLIEST = 315532800
"""1980-01-01 UTC: zip files, and tools that write them, can hold no earlier time."""

_LATEST = 0o77777777777
_LARGEST = 0o77777777777


def _make_tail(kind: bytes, link: bytes = b"", prefix: bytes = b"") -> bytes:
    """Make the part of a header after the checksum, without user or group names and device numbers."""
    return (
        kind
        + link.ljust(100, b"\0")
        + b"ustar\00000"
        + bytes(64)
        + b"0000000\0" * 2
        + prefix.ljust(155, b"\0")
        + bytes(12)
    )


def make_file_tail(prefix: bytes) -> tuple[bytes, int]:
    """Make the part after the checksum for a file whose name is split after `prefix`, and return what it adds to the
    checksum."""
    tail = _make_tail(FILE, prefix=prefix)
    return tail, sum(tail) + 8 * 32


_FILE_TAIL, _FILE_TAIL_SUM = make_file_tail(b"")
ROOT_MODES = {mode: b"%07o\0" % mode + b"0000000\0" * 2 for mode in (0o644, 0o755, 0o777)}
"""The fields of mode, user and group for files that belong to 0:0."""


def make_header(
    name: str,
    *,
    size: int = 0,
    mode: int = 0o644,
    mtime: int = EARLIEST,
    kind: bytes = FILE,
    link: str = "",
    owner: int = 0,
) -> bytes:
    """Make a member's header. `size` bytes and their padding (`pad`) follow it.

    `owner` is both user and group. `mtime` is clamped to 1980..2242. What ustar cannot hold (names that are not ASCII
    or cannot be split, sizes from 8 GiB) goes into a pax record before the header.
    """
    mtime = min(max(mtime, EARLIEST), _LATEST)
    if len(name) <= 100 and kind == FILE and not owner and size <= _LARGEST and name.isascii() and mode in ROOT_MODES:
        head = name.encode().ljust(100, b"\0") + ROOT_MODES[mode] + b"%011o\0%011o\0" % (size, mtime)
        return head + b"%06o\0 " % (sum_bytes(head) + _FILE_TAIL_SUM) + _FILE_TAIL
    return _make_any_header(name, size, mode, mtime, kind, link, owner)


def normalize_mode(mode: int) -> int:
    """Return the mode under the prefix for a packaged file's mode: 0755 or 0644."""
    return 0o755 if mode & 0o111 else 0o644


def pad(size: int) -> bytes:
    """Return the NULs that fill the last block of `size` bytes of content."""
    return bytes(-size & 511)


def make_directory(name: str, *, mode: int = 0o755, mtime: int = EARLIEST, owner: int = 0) -> bytes:
    """Make a directory member; `name` has no trailing slash."""
    return make_header(name + "/", mode=mode, mtime=mtime, kind=DIRECTORY, owner=owner)


def _make_any_header(name: str, size: int, mode: int, mtime: int, kind: bytes, link: str, owner: int) -> bytes:
    records = b""
    prefix, short = _split(name)
    if short is None:
        records += _make_record("path", name)
        prefix, short = b"", _to_ascii(name)
    if len(link) > 100 or not link.isascii():
        records += _make_record("linkpath", link)
    if size > _LARGEST:
        records += _make_record("size", str(size))
        size = 0
    result = _pack_header(short, size, mode, mtime, kind, _to_ascii(link), owner, prefix)
    if records:
        result = _pack_header(b"././@PaxHeader", len(records), 0o644, EARLIEST, b"x", b"", 0, b"") + (
            records + pad(len(records)) + result
        )
    return result


def _pack_header(
    name: bytes, size: int, mode: int, mtime: int, kind: bytes, link: bytes, owner: int, prefix: bytes
) -> bytes:
    head = name.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, owner, owner, size, mtime)
    tail = _make_tail(kind, link, prefix)
    return head + b"%06o\0 " % (sum_bytes(head) + 8 * 32 + sum_bytes(tail)) + tail


def sum_bytes(data: bytes | memoryview) -> int:
    """Sum at most half a header's bytes by the low half of Adler-32, which is 1 + the sum modulo 65521."""
    return (zlib.adler32(data) & 0xFFFF) - 1


def _split(name: str) -> tuple[bytes, bytes | None]:
    """Split `name` into ustar's prefix and name. The name is None if they cannot hold it."""
    if not name.isascii():
        return b"", None
    raw = name.encode()
    if len(raw) <= 100:
        return b"", raw
    slash = find_split(raw)
    return (raw[:slash], raw[slash + 1 :]) if slash else (b"", None)


def find_split(name: bytes) -> int:
    """Find the slash between ustar's prefix and name, for a name of more than 100 bytes; 0 if they cannot hold it."""
    # a directory's name must not be split at its trailing slash
    slash = name.find(b"/", len(name) - 101, len(name) - 1)
    return slash if 0 < slash <= 155 else 0


def _to_ascii(text: str) -> bytes:
    return text.encode("ascii", "replace")[:100]


def _make_record(key: str, value: str) -> bytes:
    """Make a pax record. The decimal length at its start includes itself."""
    rest = b" %s=%s\n" % (key.encode(), value.encode("utf-8", "surrogateescape"))
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def add_parents(paths: Iterable[str]) -> frozenset[str]:
    """Return the directories above `paths`."""
    found: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return frozenset(found)
