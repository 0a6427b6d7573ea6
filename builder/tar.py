"""Reading and writing tar members without an object per file where none is needed (POSIX.1-1988 ustar and pax).

`tarfile` takes 50 µs a member for both sides of a copy, and a package has thousands. Here a header is written from a
template and read with one `struct` call; what is unusual (pax and GNU records, base-256 numbers) goes the long way.
"""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

BLOCK = 512
END = bytes(2 * BLOCK)
"""The end of an archive: two blocks of NULs."""

FILE, HARD_LINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"

EARLIEST = 315532800
"""1980-01-01 UTC, the earliest time a zip file, and so a tool that reads one, can hold."""

_LATEST = 0o77777777777
_LARGEST = 0o77777777777
_BUFFER = 1 << 18
_RECORD_LIMIT = 1 << 20
_ADLER = 65521
_NOTHING = bytes(BLOCK)


class TarError(Exception):
    """The bytes are not a tar archive that can be used; the text says why."""


class Member(NamedTuple):
    """One member's header: `name` and `link` as written, `size` in bytes, `mtime` in seconds, `kind` the type flag."""

    name: str
    size: int
    mode: int
    mtime: int
    kind: bytes
    link: str


class Readable(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill `buffer` from its start; 0 at the end."""


def _tail(kind: bytes, link: bytes = b"", prefix: bytes = b"") -> bytes:
    """What follows the checksum: no user or group names, no device numbers."""
    return (
        kind
        + link.ljust(100, b"\0")
        + b"ustar\00000"
        + bytes(64)
        + b"0000000\0" * 2
        + prefix.ljust(155, b"\0")
        + bytes(12)
    )


_FILE_TAIL = _tail(FILE)
_FILE_TAIL_SUM = sum(_FILE_TAIL) + 8 * 32
_ROOT_MODES = {mode: b"%07o\0" % mode + b"0000000\0" * 2 for mode in (0o644, 0o755, 0o777)}


def header(
    name: str,
    *,
    size: int = 0,
    mode: int = 0o644,
    mtime: int = EARLIEST,
    kind: bytes = FILE,
    link: str = "",
    owner: int = 0,
) -> bytes:
    """The header of a member; `size` bytes and `padding(size)` follow it.

    `owner` is both user and group. `mtime` is brought into 1980..2242. What ustar cannot hold (names that are not ASCII
    or cannot be split, sizes from 8 GiB) is in a pax record before it.
    """
    mtime = min(max(mtime, EARLIEST), _LATEST)
    if len(name) <= 100 and kind == FILE and not owner and size <= _LARGEST and name.isascii() and mode in _ROOT_MODES:
        head = name.encode().ljust(100, b"\0") + _ROOT_MODES[mode] + b"%011o\0%011o\0" % (size, mtime)
        return head + b"%06o\0 " % (_sum(head) + _FILE_TAIL_SUM) + _FILE_TAIL
    return _any_header(name, size, mode, mtime, kind, link, owner)


def padding(size: int) -> bytes:
    """The NULs that fill the last block of `size` bytes of content."""
    return bytes(-size & 511)


def directory(name: str, *, mode: int = 0o755, mtime: int = EARLIEST, owner: int = 0) -> bytes:
    """A directory member; `name` without the slash at its end."""
    return header(name + "/", mode=mode, mtime=mtime, kind=DIRECTORY, owner=owner)


def _any_header(name: str, size: int, mode: int, mtime: int, kind: bytes, link: str, owner: int) -> bytes:
    records = b""
    prefix, short = _split(name)
    if short is None:
        records += _record("path", name)
        prefix, short = b"", _plain(name)
    if len(link) > 100 or not link.isascii():
        records += _record("linkpath", link)
    if size > _LARGEST:
        records += _record("size", str(size))
        size = 0
    result = _raw_header(short, size, mode, mtime, kind, _plain(link), owner, prefix)
    if records:
        result = _raw_header(b"././@PaxHeader", len(records), 0o644, EARLIEST, b"x", b"", 0, b"") + (
            records + padding(len(records)) + result
        )
    return result


def _raw_header(
    name: bytes, size: int, mode: int, mtime: int, kind: bytes, link: bytes, owner: int, prefix: bytes
) -> bytes:
    head = name.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, owner, owner, size, mtime)
    tail = _tail(kind, link, prefix)
    return head + b"%06o\0 " % (_sum(head) + 8 * 32 + _sum(tail)) + tail


def _sum(data: bytes) -> int:
    """The sum of the bytes of half a header, by the low half of Adler-32, which is 1 + that modulo 65521."""
    return (zlib.adler32(data) & 0xFFFF) - 1


def _split(name: str) -> tuple[bytes, bytes | None]:
    """`name` as ustar's prefix and name; the name is None when they cannot hold it."""
    if not name.isascii():
        return b"", None
    raw = name.encode()
    if len(raw) <= 100:
        return b"", raw
    # The slash at the end of a directory's name must not be where it is split.
    slash = raw.find(b"/", len(raw) - 101, len(raw) - 1)
    return (raw[:slash], raw[slash + 1 :]) if 0 < slash <= 155 else (b"", None)


def _plain(text: str) -> bytes:
    return text.encode("ascii", "replace")[:100]


def _record(key: str, value: str) -> bytes:
    """A pax record; the decimal length at its start counts itself."""
    rest = b" %s=%s\n" % (key.encode(), value.encode("utf-8", "surrogateescape"))
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


_HEADER = struct.Struct("100s8s16x12s12s8sc100s6s82x155s12x")


class TarReader:
    """The members of a tar stream, in order, through one buffer of twice 1 MiB.

    Iteration gives each Member; before the next one, `content()` or `chunks()` may be asked for its bytes once. The
    memory views they give are valid until the reader is used again. Raises TarError.
    """

    def __init__(self, source: Readable, sink: Callable[[memoryview], object] | None = None) -> None:
        self._source = source
        self._sink = sink
        self._run_start = self._run_stop = -1
        self._buffer = bytearray(2 * _BUFFER)
        self._view = memoryview(self._buffer)
        self._position = 0
        self._end = 0
        self._unread = 0
        self._padding = 0
        self._defaults: dict[str, str] = {}

    def __iter__(self) -> Iterator[Member]:
        while True:
            if self._unread or self._padding:
                self._skip()
            member = self._member()
            if member is None:
                return
            yield member

    def pass_on(self, header: bytes) -> bool:
        """Give the member to the sink under another header of one block; False when not all of it is in the buffer.

        Members in a row are given as one piece, without a copy, by the next `flush` or when the buffer moves on.
        """
        start = self._position - BLOCK
        stop = self._position + self._unread + self._padding
        if stop > self._end:
            return False
        if start != self._run_stop:
            self.flush()
            self._run_start = start
        self._view[start : self._position] = header
        if self._padding:
            self._view[stop - self._padding : stop] = bytes(self._padding)
        self._position = self._run_stop = stop
        self._unread = self._padding = 0
        return True

    def flush(self) -> None:
        """Give the sink what `pass_on` has kept back; to be called before anything else is written."""
        if self._run_stop > self._run_start:
            assert self._sink is not None, "members are passed on to a sink"
            self._sink(self._view[self._run_start : self._run_stop])
        self._run_start = self._run_stop = -1

    def content(self) -> memoryview:
        """The rest of the member, which must be at most 1 MiB."""
        size = self._unread
        self._need(size)
        start = self._position
        self._position = start + size
        self._unread = 0
        return self._view[start : start + size]

    def chunks(self) -> Iterator[memoryview]:
        """The rest of the member in views of at most 2 MiB."""
        while self._unread:
            self._need(1)
            start = self._position
            self._position = stop = min(self._end, start + self._unread)
            self._unread -= stop - start
            yield self._view[start:stop]

    def _need(self, count: int) -> None:
        """Have `count` bytes in the buffer, which is at most 1 MiB; raises TarError at the end of the stream."""
        if self._end - self._position >= count:
            return
        self._fill(count)
        if self._end - self._position < count:
            raise TarError("it ends in the middle of a member (truncated)")

    def _fill(self, count: int) -> None:
        self.flush()
        kept = self._end - self._position
        self._view[:kept] = self._buffer[self._position : self._end]
        self._position, self._end = 0, kept
        while self._end < count:
            got = self._source.readinto(self._view[self._end : self._end + _BUFFER])
            if not got:
                return
            self._end += got

    def _skip(self) -> None:
        for _ in self.chunks():
            pass
        self._need(self._padding)
        self._position += self._padding
        self._padding = 0

    def _member(self) -> Member | None:
        if self._end - self._position < BLOCK:
            self._fill(BLOCK)
            if self._end - self._position < BLOCK:
                raise TarError("it has no end-of-archive marker (truncated)")
        start = self._position
        name, mode, size, mtime, checksum, kind, link, magic, prefix = _HEADER.unpack_from(self._buffer, start)
        try:
            expected = int(checksum.rstrip(b" \0"), 8) + sum(checksum) - 8 * 32 + 1
            member = Member(
                name.partition(b"\0")[0].decode("utf-8", "surrogateescape"),
                int(size.rstrip(b" \0"), 8),
                int(mode.rstrip(b" \0"), 8),
                int(mtime.rstrip(b" \0"), 8),
                kind,
                "",
            )
        except ValueError:
            return self._unusual()
        if (
            expected % _ADLER != zlib.adler32(self._view[start : start + BLOCK]) & 0xFFFF
            or kind not in b"0125"
            or member.size < 0
            or self._defaults
        ):
            return self._unusual()
        self._position = start + BLOCK
        if prefix[0] and magic == b"ustar\0":
            member = member._replace(name=f"{_text(prefix)}/{member.name}")
        if kind == FILE and not member.name.endswith("/"):
            self._unread = member.size
            self._padding = -member.size & 511
            return member
        return self._begin(member._replace(link=_text(link)))

    def _begin(self, member: Member) -> Member:
        """Links and directories have no content, whatever their headers say; a file named `x/` is a directory."""
        if member.kind == FILE and member.name.endswith("/"):
            member = member._replace(kind=DIRECTORY)
        if member.kind in (HARD_LINK, SYMLINK, DIRECTORY):
            member = member._replace(size=0)
        self._unread = member.size
        self._padding = -member.size & 511
        return member

    def _unusual(self) -> Member | None:
        """The next member by way of `tarfile`, with the records before it; None at the end of the archive."""
        records = dict(self._defaults)
        while True:
            self._need(BLOCK)
            raw = bytes(self._view[self._position : self._position + BLOCK])
            if raw == _NOTHING:
                return None
            try:
                info = tarfile.TarInfo.frombuf(raw, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise TarError(f"it has a broken header ({error})") from None
            self._position += BLOCK
            if info.size < 0:
                raise TarError("it has a member of negative size")
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records.update(_parse_records(self._record_content(info.size)))
            elif info.type == tarfile.XGLTYPE:
                self._defaults.update(_parse_records(self._record_content(info.size)))
                records.update(self._defaults)
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                records["path"] = _text(self._record_content(info.size))
            elif info.type == tarfile.GNUTYPE_LONGLINK:
                records["linkpath"] = _text(self._record_content(info.size))
            else:
                return self._begin(_described(info, records))

    def _record_content(self, size: int) -> bytes:
        if size > _RECORD_LIMIT - BLOCK:
            raise TarError(f"it has an extended header of {size} bytes")
        self._unread = size
        content = bytes(self.content())
        self._padding = -size & 511
        self._skip()
        return content


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _described(info: tarfile.TarInfo, records: dict[str, str]) -> Member:
    if any(key.startswith("GNU.sparse") for key in records) or info.type == tarfile.GNUTYPE_SPARSE:
        raise TarError(f"member {info.name} is a sparse file, which packages do not hold")
    kind = FILE if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) else info.type
    try:
        return Member(
            name=records.get("path", info.name),
            size=_natural(records.get("size", info.size)),
            mode=info.mode,
            mtime=int(float(records.get("mtime", info.mtime))),
            kind=kind,
            link=records.get("linkpath", info.linkname),
        )
    except (ValueError, OverflowError):
        raise TarError(f"member {info.name} has an extended header with a number that is none") from None


def _natural(value: str | int) -> int:
    number = int(value)
    if number < 0:
        raise ValueError(value)
    return number


def _parse_records(content: bytes) -> dict[str, str]:
    """pax records, `<length> <key>=<value>\\n` each, as POSIX.1-2001 has them."""
    records = {}
    position = 0
    while position < len(content) and content[position]:
        space = content.find(b" ", position, position + 20)
        try:
            length = int(content[position:space])
        except ValueError:
            length = 0
        key, equals, value = content[space + 1 : position + length - 1].partition(b"=")
        if space < 0 or not equals or not space < position + length <= len(content):
            raise TarError("it has a broken extended header")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        position += length
    return records
