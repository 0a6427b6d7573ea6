"""Reads tar members, and passes most of them on under other names without an object or a copy for each.

`tarfile` takes 25 µs to read a header, and a package has thousands. Here a header is one `struct` call; unusual ones
(GNU's records, base-256 numbers, old formats) take a slower path.
"""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from builder.archives.tar import (
    BLOCK,
    DIRECTORY,
    EARLIEST,
    FILE,
    HARD_LINK,
    ROOT_MODES,
    SYMLINK,
    find_split,
    make_file_tail,
    normalize_mode,
    sum_bytes,
)

_BUFFER = 1 << 18
_RECORD_LIMIT = 1 << 20
_ADLER = 65521
_NOTHING = bytes(BLOCK)
_REMEMBERED = 4096
"""Header fields whose new form is remembered."""


class TarError(Exception):
    """The bytes are not a usable tar archive; the text says why."""


class Member(NamedTuple):
    """One member's header: `name` and `link` as written, `size` in bytes, `mtime` in seconds, `kind` the type flag."""

    name: str
    size: int
    mode: int
    mtime: int
    kind: bytes
    link: str


Renamed = tuple[bytes, int, int, int]
"""A file that was passed on: its name in the new archive, mode, mtime in seconds, and size in bytes."""


class Readable(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill `buffer` from its start. Returns 0 at the end."""


class Sink(Protocol):
    @property
    def room(self) -> int:
        """How many bytes complete its current chunk. Whole chunks after that are taken without a copy."""

    def add(self, piece: memoryview, /) -> None:
        """Take `piece`, whose bytes change afterwards."""


_HEADER = struct.Struct("100s8s16x12s12s8sc100s6s82x155s12x")
_PLAIN = struct.Struct("100s8s16x11sB11sB8sB188xB166x")
"""Name, mode, size, mtime, checksum, type and the first byte of the prefix. The last bytes of number fields are
apart."""
_PLAIN_FILE = ord(FILE)
_MEANT = (b"path", b"size", b"mtime", b"linkpath")
_USUAL = (FILE, HARD_LINK, SYMLINK, DIRECTORY)


class TarReader:
    """The members of a tar stream, in order, through one buffer of 256 KiB.

    Iteration yields each Member; before the next one, `chunks()` may be called once for its bytes. Its memory views are
    valid until the reader is used again. Raises TarError.
    """

    def __init__(self, source: Readable, sink: Sink | None = None) -> None:
        self._source = source
        self._sink = sink
        self._view = memoryview(bytearray(_BUFFER))
        self._position = 0
        self._end = 0
        self._unread = 0
        self._padding = 0
        self._defaults: dict[str, str] = {}
        self._plain_tail = make_file_tail(b"")
        self._tails: dict[bytes, tuple[bytes, int]] = {}
        self._owners: dict[bytes, tuple[int, bytes]] = {}

    def __iter__(self) -> Iterator[Member]:
        while (member := self.next()) is not None:
            yield member

    def next(self) -> Member | None:
        """Return the next member, or None at the end of the archive."""
        self._skip()
        return self._read_member()

    def rename(self, names: dict[bytes, bytes], renamed: dict[bytes, Renamed]) -> None:
        """Give the sink the next members under new names, up to one that is not in `names` or not a plain file.

        `names` maps old names to new ones; a member that is passed on moves from there to `renamed`. It belongs to 0:0
        and gets the mode of `normalize_mode`. Only headers are changed, within the buffer, and members in a row reach
        the sink as one piece. A member that is not plain (a name that is not ASCII, a time before 1980, a record before
        it) remains the next member, and so does one with a broken header, so that `next` reports the fault.
        """
        self._skip()
        view, adler, plain_tail = self._view, zlib.adler32, self._plain_tail
        begin = start = self._position
        while not self._defaults:
            if self._end - start < BLOCK:
                self._give(begin, start)
                self._fill()
                begin = start = self._position
                if self._end - start < BLOCK:
                    break
            name, mode, digits, end, time, time_end, checksum, kind, split = _PLAIN.unpack_from(view, start)
            name = name.rstrip(b"\0")
            target = names.get(name)
            if target is None or kind != _PLAIN_FILE or end or time_end or split or not (digits + time).isdigit():
                break
            try:
                size, mtime, expected = int(digits, 8), int(time, 8), int(checksum.rstrip(b" \0"), 8)
                new_mode, owner = self._owners.get(mode) or self._rename_owner(mode)
                short, (tail, tail_sum) = (target, plain_tail) if len(target) <= 100 else self._split(target)
            except ValueError:
                break
            found = adler(view[start + 156 : start + BLOCK], adler(view[start : start + 148])) & 0xFFFF
            if found != (expected - 8 * 32 + 1) % _ADLER or mtime < EARLIEST or not target.isascii():
                break
            view[start : start + 124] = short.ljust(100, b"\0") + owner
            view[start + 148 : start + BLOCK] = b"%06o\0 " % (sum_bytes(view[start : start + 148]) + tail_sum) + tail
            del names[name]
            renamed[name] = target, new_mode, mtime, size
            padding = -size & 511
            start += BLOCK + size + padding
            if start > self._end:
                begin, start = 0, self._pass_on(begin, start - self._end)
            if padding:
                view[start - padding : start] = _NOTHING[:padding]
        self._give(begin, start)

    def _pass_on(self, begin: int, rest: int) -> int:
        """Give the sink the buffer from `begin`, and then the rest of the last member, whose last `rest` bytes are not
        in the buffer yet. Returns where the member ends in the buffer; that last part is not given."""
        self._give(begin, self._end)
        while True:
            self._need(1)
            if rest <= self._end:
                return rest
            rest -= self._end
            self._give(0, self._end)

    def _give(self, begin: int, stop: int) -> None:
        self._position = stop
        if begin < stop:
            assert self._sink is not None, "members are renamed for a sink"
            self._sink.add(self._view[begin:stop])

    def _rename_owner(self, mode: bytes) -> tuple[int, bytes]:
        """Return the new mode for the header field `mode`, and the new header's fields of mode and owner."""
        if len(self._owners) > _REMEMBERED:
            self._owners.clear()
        new = normalize_mode(int(mode.rstrip(b" \0"), 8))
        self._owners[mode] = found = new, ROOT_MODES[new]
        return found

    def _split(self, name: bytes) -> tuple[bytes, tuple[bytes, int]]:
        """Split a name of more than 100 bytes into the header's name and its tail.

        Raises ValueError if it is too long.
        """
        slash = find_split(name)
        if not slash:
            raise ValueError(name)
        prefix = name[:slash]
        if prefix not in self._tails:
            if len(self._tails) > _REMEMBERED:
                self._tails.clear()
            self._tails[prefix] = make_file_tail(prefix)
        return name[slash + 1 :], self._tails[prefix]

    def chunks(self) -> Iterator[memoryview]:
        """Yield the rest of the member in views of at most 256 KiB."""
        while self._unread:
            self._need(1)
            start = self._position
            self._position = stop = min(self._end, start + self._unread)
            self._unread -= stop - start
            yield self._view[start:stop]

    def _need(self, count: int) -> None:
        """Have `count` bytes in the buffer, at most a block. Raises TarError at the end of the stream."""
        if self._end - self._position < count:
            self._fill()
            if self._end - self._position < count:
                raise TarError("it ends in the middle of a member (truncated)")

    def _fill(self) -> None:
        """Read as much as completes the sink's chunk, in whole blocks, so that the buffer's end divides no block."""
        kept = self._end - self._position
        self._view[:kept] = self._view[self._position : self._end]
        self._position, self._end = 0, kept
        room = self._sink.room // BLOCK * BLOCK if self._sink else 0
        stop = room if kept < room < _BUFFER else _BUFFER
        while self._end < stop and (count := self._source.readinto(self._view[self._end : stop])):
            self._end += count

    def _skip(self) -> None:
        if self._unread or self._padding:
            for _ in self.chunks():
                pass
            self._need(self._padding)
            self._position += self._padding
            self._padding = 0

    def _read_member(self) -> Member | None:
        if self._end - self._position < BLOCK:
            self._fill()
            if self._end - self._position < BLOCK:
                raise TarError("it has no end-of-archive marker (truncated)")
        member = self._read_header()
        if member is None or member.kind not in _USUAL or self._defaults:
            return self._read_unusual()
        self._position += BLOCK
        return self._begin(member)

    def _read_header(self) -> Member | None:
        """Parse the next header. Returns None if it is broken, or of a kind not handled here."""
        start = self._position
        name, mode, size, mtime, checksum, kind, link, magic, prefix = _HEADER.unpack_from(self._view, start)
        try:
            expected = int(checksum.rstrip(b" \0"), 8) + sum(checksum) - 8 * 32 + 1
            member = Member(
                _read_text(name),
                _read_octal(size),
                _read_octal(mode),
                _read_octal(mtime),
                kind,
                "" if kind == FILE else _read_text(link),
            )
        except ValueError:
            return None
        if expected % _ADLER != zlib.adler32(self._view[start : start + BLOCK]) & 0xFFFF or member.size < 0:
            return None
        if prefix[0] and magic == b"ustar\0":
            member = member._replace(name=f"{_read_text(prefix)}/{member.name}")
        return member

    def _begin(self, member: Member) -> Member:
        """Start a member.

        Links and directories have no content, whatever their headers say; a file named `x/` is a directory.
        """
        if member.kind == FILE and member.name.endswith("/"):
            member = member._replace(kind=DIRECTORY)
        if member.kind in (HARD_LINK, SYMLINK, DIRECTORY):
            member = member._replace(size=0)
        self._unread = member.size
        self._padding = -member.size & 511
        return member

    def _read_unusual(self) -> Member | None:
        """Return the next member after the records before it, or None at the end of the archive."""
        records = dict(self._defaults)
        while True:
            self._need(BLOCK)
            member = self._read_header() or self._read_strange_header()
            if member is None:
                return None
            self._position += BLOCK
            if member.size < 0:
                raise TarError("it has a member of negative size")
            if member.kind in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records.update(_parse_records(self._read_records(member.size)))
            elif member.kind == tarfile.XGLTYPE:
                self._defaults.update(_parse_records(self._read_records(member.size)))
                records.update(self._defaults)
            elif member.kind == tarfile.GNUTYPE_LONGNAME:
                records["path"] = _read_text(self._read_records(member.size))
            elif member.kind == tarfile.GNUTYPE_LONGLINK:
                records["linkpath"] = _read_text(self._read_records(member.size))
            else:
                return self._begin(_apply_records(member, records))

    def _read_strange_header(self) -> Member | None:
        """Let `tarfile` parse the next header. Returns None at the end of the archive."""
        raw = bytes(self._view[self._position : self._position + BLOCK])
        if raw == _NOTHING:
            return None
        try:
            info = tarfile.TarInfo.frombuf(raw, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise TarError(f"it has a broken header ({error})") from None
        return Member(info.name, info.size, info.mode, int(info.mtime), info.type, info.linkname)

    def _read_records(self, size: int) -> bytes:
        if size > _RECORD_LIMIT - BLOCK:
            raise TarError(f"it has an extended header of {size} bytes")
        self._unread = size
        content = b"".join(map(bytes, self.chunks()))
        self._padding = -size & 511
        self._skip()
        return content


def _read_text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _read_octal(field: bytes) -> int:
    return int(field.rstrip(b" \0"), 8)


def _apply_records(member: Member, records: dict[str, str]) -> Member:
    if any(key.startswith("GNU.sparse") for key in records) or member.kind == tarfile.GNUTYPE_SPARSE:
        raise TarError(f"member {member.name} is a sparse file, which a package may not hold")
    kind = FILE if member.kind in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) else member.kind
    try:
        return Member(
            name=records.get("path", member.name),
            size=_read_natural(records.get("size", member.size)),
            mode=member.mode,
            mtime=int(float(records.get("mtime", member.mtime))),
            kind=kind,
            link=records.get("linkpath", member.link),
        )
    except (ValueError, OverflowError):
        raise TarError(f"member {member.name} has an extended header with an invalid number") from None


def _read_natural(value: str | int) -> int:
    number = int(value)
    if number < 0:
        raise ValueError(value)
    return number


def _parse_records(content: bytes) -> dict[str, str]:
    """Parse pax records, `<length> <key>=<value>\\n` each, as in POSIX.1-2001."""
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
        # others mean nothing here, and an archive may have any number of them
        if key in _MEANT:
            records[key.decode()] = value.decode("utf-8", "surrogateescape")
        elif key.startswith(b"GNU.sparse"):
            records["GNU.sparse"] = ""
        position += length
    return records
