"""Reads the zip of a wheel, which has to mean the same to every reader.

Zip files say most things twice, and readers differ in what they believe. Here both have to agree: every member is in
the directory at the end and has a header of its own before its data, with the same name, sizes, checksum, method and
flags; members lie one after the other from the first byte of the file to the directory, and nothing else does. uv asks
the same, so what it installs is read here (APPNOTE.TXT 6.3.10; `crates/uv-extract/src/stream.rs`).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from isal import isal_zlib
from isal.igzip_lib import IsalError

from builder.archives.archive import ArchiveLimits
from builder.archives.tar import EARLIEST
from storage.errors import quote

PIECE = 1 << 18
"""Bytes up to which a member is one piece; a larger one comes in pieces of as many."""

SMALL = 64 << 20
"""Bytes below which the expansion ratio means nothing."""

_LONGEST_NAME = 2048
_DIRECTORY_OF_A_PATH = 1024
"""Bytes of the zip's directory for each path that is allowed: 46, the name, and what fields there may be."""
_STORED, _DEFLATED = 0, 8
_DESCRIPTOR, _UTF8 = 1 << 3, 1 << 11
_FLAGS = 0b110 | _DESCRIPTOR | _UTF8
"""Flags that say nothing of how to read a member, or are read here. Others encrypt it, for instance."""
_FULL = 0xFFFFFFFF
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_LONGEST_COMMENT = 0xFFFF

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s4B4H3L5H2L")
_LOCAL = struct.Struct("<4s2B4H3L2H")
_PRINTABLE = re.compile(rb"[\t\n\r -~]*")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\\\\]")


class ZipError(Exception):
    """What is wrong with the zip file, to follow the words "its archive is not sound"."""


class ZipMember(NamedTuple):
    """A member as the directory has it; sizes in bytes, `mtime` in seconds UTC."""

    name: str
    """Checked: relative, without `..`, backslashes and characters that nobody sees. Directories end with a slash."""
    offset: int
    """Of its own header."""
    packed: int
    size: int
    crc: int
    method: int
    flags: int
    executable: bool
    mtime: int


@dataclass(frozen=True)
class ZipArchive:
    """An open wheel with its checked directory. Use `open`."""

    file: BinaryIO
    members: tuple[ZipMember, ...]
    """In the order of the directory."""
    end: int
    """Where the directory begins, after the last member."""

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, limits: ArchiveLimits) -> Iterator[Self]:
        """Open the zip at `path`. Raises ZipError, OSError."""
        with open(path, "rb", buffering=1 << 20) as file:
            yield cls.of(file, limits)

    @classmethod
    def of(cls, file: BinaryIO, limits: ArchiveLimits) -> Self:
        """Read the directory of an open file. Raises ZipError, OSError."""
        size = file.seek(0, os.SEEK_END)
        count, start, length = _find_directory(file, size)
        if count > limits.paths:
            raise ZipError(f"it has {count} members; at most {limits.paths} are allowed (max_paths)")
        if length > _DIRECTORY_OF_A_PATH * max(count, 1):
            raise ZipError(f"the zip's directory has {length} bytes for {count} members")
        file.seek(start)
        members = tuple(_read_directory(file.read(length), count))
        _check_sizes(members, size, limits)
        return cls(file, members, start)

    def read(self, member: ZipMember, most: int) -> bytes:
        """Read a whole member of at most `most` bytes. Raises ZipError."""
        if member.size > most:
            raise ZipError(f"its {member.name} has {member.size} bytes; at most {most} are allowed")
        self.file.seek(member.offset)
        _read_header(self.file, member)
        return b"".join(self._expand(member))

    def walk(self) -> Iterator[tuple[ZipMember, Iterator[bytes]]]:
        """Yield each member with its content in pieces, in the file's order, and check all that lies between them.

        The pieces need not be taken. Raises ZipError, at the latest after the last member.
        """
        ordered = sorted(self.members, key=lambda member: member.offset)
        self.file.seek(0)
        position = 0
        for index, member in enumerate(ordered):
            if member.offset != position:
                raise ZipError(f"its member {member.name} does not begin where the one before it ends")
            start = position + _read_header(self.file, member)
            pieces = self._expand(member)
            yield member, pieces
            for _ in pieces:
                pass
            position = ordered[index + 1].offset if index + 1 < len(ordered) else self.end
            self._check_gap(member, position - start - member.packed)
        if position != self.end:
            raise ZipError("there is something before its first member")

    def _check_gap(self, member: ZipMember, length: int) -> None:
        """Check what lies between a member's data and the next member."""
        if length < 0:
            raise ZipError(f"its member {member.name} overlaps what comes after it")
        if not member.flags & _DESCRIPTOR:
            if length:
                raise ZipError(f"there are {length} bytes of nothing after its member {member.name}")
            return
        form = {12: "<3L", 16: "<4s3L", 20: "<L2Q", 24: "<4sL2Q"}.get(length)
        if form is None or struct.unpack(form, self.file.read(length))[-3:] != (member.crc, member.packed, member.size):
            raise ZipError(f"the descriptor of its member {member.name} says other than the zip's directory")

    def _expand(self, member: ZipMember) -> Iterator[bytes]:
        """Yield a member's content from where the file is. Raises ZipError unless it is what the directory says."""
        if member.size > PIECE or member.packed > PIECE:
            return self._expand_large(member)
        # most members are small, and a generator in a generator for each costs more than their bytes
        pieces = list(self._expand_large(member)) if member.method != _DEFLATED else [self._inflate_small(member)]
        return iter(pieces)

    def _inflate_small(self, member: ZipMember) -> bytes:
        packed = self.file.read(member.packed)
        inflater = isal_zlib.decompressobj(wbits=-15)
        try:
            content = inflater.decompress(packed, member.size + 1)
        except IsalError as error:  # type: ignore[misc]  # isal's stub declares it as an object
            raise ZipError(f"its member {member.name} is not sound deflate data ({error})") from None
        if len(content) != member.size or isal_zlib.crc32(content) != member.crc:
            raise ZipError(f"its member {member.name} is not of the size or the checksum that the zip's directory says")
        if not inflater.eof or inflater.unused_data:
            raise ZipError(f"the data of its member {member.name} is truncated, or there is something after it")
        return content

    def _expand_large(self, member: ZipMember) -> Iterator[bytes]:
        crc = size = 0
        for piece in self._inflate(member) if member.method == _DEFLATED else self._copy(member):
            crc = isal_zlib.crc32(piece, crc)
            size += len(piece)
            if size > member.size:
                break
            yield piece
        if size != member.size or crc != member.crc:
            raise ZipError(f"its member {member.name} is not of the size or the checksum that the zip's directory says")

    def _copy(self, member: ZipMember) -> Iterator[bytes]:
        left = member.packed
        while left:
            piece = self.file.read(min(left, PIECE))
            if not piece:
                raise ZipError("it is truncated")
            left -= len(piece)
            yield piece

    def _inflate(self, member: ZipMember) -> Iterator[bytes]:
        inflater = isal_zlib.decompressobj(wbits=-15)
        try:
            for packed in self._copy(member):
                if inflater.eof:
                    raise ZipError(f"there is something after the data of its member {member.name}")
                # a byte more than is expected, so that too many are noticed
                yield inflater.decompress(packed, min(member.size + 1, PIECE))
                while rest := inflater.unconsumed_tail:
                    yield inflater.decompress(rest, PIECE)
            while not inflater.eof:
                piece = inflater.decompress(b"", PIECE)
                if not piece:
                    raise ZipError(f"the data of its member {member.name} is truncated")
                yield piece
        except IsalError as error:  # type: ignore[misc]  # isal's stub declares it as an object
            raise ZipError(f"its member {member.name} is not sound deflate data ({error})") from None
        if inflater.unused_data:
            raise ZipError(f"there is something after the data of its member {member.name}")


def _find_directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return how many members the zip's directory has, where it begins, and its bytes."""
    file.seek(max(size - _END.size - _LONGEST_COMMENT, 0))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise ZipError("it is no zip file, or it is truncated")
    _, disk, first, here, count, length, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail) or not _PRINTABLE.fullmatch(tail, at + _END.size):
        raise ZipError("there is something after the end of the zip, or in its comment")
    end = size - len(tail) + at
    if 0xFFFF in (here, count) or _FULL in (length, start):
        here, count, length, start, end = _read_end64(file, end, (here, count, length, start))
    if disk or first or here != count:
        raise ZipError("it is a part of a zip of several files")
    if start + length != end:
        raise ZipError("the zip's directory does not lie where its end says")
    return count, start, length


def _read_end64(file: BinaryIO, end: int, short: tuple[int, ...]) -> tuple[int, int, int, int, int]:
    """Read the end of a large zip, before `end`, and where it begins. `short` are the same numbers in fewer bits."""
    begin = end - _LOCATOR.size - _END64.size
    if begin < 0:
        raise ZipError("the zip's directory does not lie where its end says")
    file.seek(begin)
    magic, length, _, _, disk, first, *numbers = _END64.unpack(file.read(_END64.size))
    locator, start_disk, where, disks = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if magic != b"PK\x06\x06" or locator != b"PK\x06\x07" or length != _END64.size - 12 or where != begin:
        raise ZipError("the zip's directory does not lie where its end says")
    if disk or first or start_disk or disks != 1:
        raise ZipError("it is a part of a zip of several files")
    for number, given, full in zip(numbers, short, (0xFFFF, 0xFFFF, _FULL, _FULL), strict=True):
        if given not in (full, number):
            raise ZipError("the two ends of the zip say different things")
    return numbers[0], numbers[1], numbers[2], numbers[3], begin


def _read_directory(content: bytes, count: int) -> Iterator[ZipMember]:
    position = 0
    names: set[str] = set()
    for _ in range(count):
        try:
            (
                magic, _, _, _, _, flags, method, clock, date, crc, packed, size,
                name_length, extra_length, comment_length, disk, _, attributes, offset,
            ) = _CENTRAL.unpack_from(content, position)  # fmt: skip
        except struct.error:
            raise ZipError("the zip's directory is truncated") from None
        start = position + _CENTRAL.size
        raw = content[start : start + name_length]
        extra = content[start + name_length : start + name_length + extra_length]
        position = start + name_length + extra_length + comment_length
        if magic != b"PK\x01\x02" or position > len(content):
            raise ZipError("the zip's directory is damaged")
        name = _read_name(raw, flags, extra)
        if name in names:
            raise ZipError(f"it has the member {name} twice")
        names.add(name)
        size, packed, offset = _widen(name, extra, size, packed, offset)
        _check_member(name, flags, method, packed, size, attributes, disk)
        executable = bool(attributes >> 16 & 0o111) and not name.endswith("/")
        yield ZipMember(name, offset, packed, size, crc, method, flags, executable, _read_time(date, clock))
    if position != len(content):
        raise ZipError("the zip's directory has more members than its end says")


def _read_name(raw: bytes, flags: int, extra: bytes) -> str:
    """Read and check a member's name."""
    try:
        # without the flag, readers take them for anything
        name = raw.decode() if flags & _UTF8 else raw.decode("ascii")
    except UnicodeDecodeError:
        raise ZipError(f"the name of its member {quote(raw.decode('latin-1'), 80)} is not UTF-8") from None
    _check_second_name(raw, name, extra)
    path = f"/{name.removesuffix('/')}/"
    if len(raw) > _LONGEST_NAME or _UNPRINTABLE.search(name):
        raise ZipError(f"the name of its member {quote(name, 80)} is too long, or has characters that none may have")
    if "//" in path or "/./" in path or "/../" in path or path[2:4] == ":/":
        raise ZipError(f"its member {quote(name, 80)} leads out of the archive, or has an odd name")
    return name


def _check_second_name(raw: bytes, name: str, extra: bytes) -> None:
    if extra and any(kind == _UNICODE_PATH and field[5:] != raw for kind, field in _read_extra(extra)):
        raise ZipError(f"its member {name} has a second name")


def _check_member(
    name: str, flags: int, method: int, packed: int, size: int, attributes: int, disk: int
) -> None:  # fmt: skip
    if flags & ~_FLAGS or method not in (_STORED, _DEFLATED) or disk:
        raise ZipError(f"its member {name} is encrypted, or compressed in a way that wheels are not")
    if method == _STORED and packed != size:
        raise ZipError(f"its member {name} is not compressed, but has two sizes")
    kind = stat.S_IFMT(attributes >> 16)
    if name.endswith("/"):
        if kind not in (0, stat.S_IFDIR) or size:
            raise ZipError(f"its member {name} is named like a directory, but is none")
    elif kind not in (0, stat.S_IFREG) or attributes & 0x10:
        raise ZipError(f"its member {name} is a link, a directory or a device, not a file")


def _check_sizes(members: tuple[ZipMember, ...], size: int, limits: ArchiveLimits) -> None:
    by_ratio = int(max(SMALL, size * limits.ratio))
    most = min(limits.expanded, by_ratio)
    if sum(member.size for member in members) > most:
        setting = "max_expanded" if limits.expanded <= by_ratio else "max_ratio"
        raise ZipError(f"it expands to more than the allowed {most} bytes ({setting})")
    if sum(len(member.name) for member in members) > limits.text:
        raise ZipError(f"the names of its members have more than {limits.text} characters")


def _read_header(file: BinaryIO, member: ZipMember) -> int:
    """Read a member's own header and return its bytes. Raises ZipError if the directory says something else."""
    content = file.read(_LOCAL.size)
    try:
        (
            magic, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length
        ) = _LOCAL.unpack(content)  # fmt: skip
    except struct.error:
        raise ZipError("it is truncated") from None
    raw = file.read(name_length)
    extra = file.read(extra_length)
    if magic != b"PK\x03\x04" or len(extra) != extra_length:
        raise ZipError(f"its member {member.name} does not lie where the zip's directory says")
    # the flags say how the name is encoded, so the same bytes are the same name
    if raw != member.name.encode() or flags != member.flags or method != member.method:
        raise ZipError(f"the header of its member {member.name} says other than the zip's directory")
    _check_second_name(raw, member.name, extra)
    size, packed, _ = _widen(member.name, extra, size, packed, 0)
    found = (crc, packed, size)
    # sizes that were not known yet follow the data
    if found != (member.crc, member.packed, member.size) and not (flags & _DESCRIPTOR and not any(found)):
        raise ZipError(f"the header of its member {member.name} says other than the zip's directory")
    return _LOCAL.size + len(raw) + len(extra)


def _widen(name: str, extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Return the numbers that may be too large for 32 bits, of which each then is in the zip64 field."""
    if not extra:
        return size, packed, offset
    for kind, field in _read_extra(extra):
        if kind != _ZIP64:
            continue
        if len(field) % 8 not in (0, 4) or len(field) > 28:
            raise ZipError(f"the zip64 field of its member {name} makes no sense")
        wide = list(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
        numbers = [size, packed, offset]
        for index, number in enumerate(numbers):
            if number == _FULL and wide:
                numbers[index] = wide.pop(0)
        # some writers have the field without need; then it must say the same
        if wide and wide != [size, packed, offset][: len(wide)] and any(wide):
            raise ZipError(f"the zip64 field of its member {name} says other than the rest")
        size, packed, offset = numbers
        break
    return size, packed, offset


def _read_extra(extra: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        yield kind, extra[position + 4 : position + 4 + length]
        position += 4 + length


@lru_cache(1000)
def _read_time(date: int, clock: int) -> int:
    """Return a time of MS-DOS in seconds UTC, and 1980 for one that is none."""
    try:
        moment = datetime(
            (date >> 9) + 1980, date >> 5 & 15, date & 31, clock >> 11, clock >> 5 & 63, min(clock & 31, 29) * 2,
            tzinfo=UTC,
        )  # fmt: skip
    except ValueError:
        return EARLIEST
    return int(moment.timestamp())
