"""Reads conda package archives: `.conda` (CEP 35: a stored zip of two zstandard tars) and `.tar.bz2` (one tar).

Every fault in an archive, whether an accident or an attack, is a PackageRefused that names the package.
"""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import io
import os
import posixpath
import struct
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

import zstandard

from builder.archives.tar import DIRECTORY, FILE, HARD_LINK, SYMLINK
from builder.archives.tar_reader import Member, Sink, TarError, TarReader
from builder.errors import PackageRefused

Part = Literal["pkg", "info"]
"""The two tars of a `.conda`, which conda and rattler unpack into one folder. The single one of a `.tar.bz2` is
`pkg`."""

_CHUNK = 1 << 17
_ZIP = b"PK\x03\x04"
_SMALL = 64 << 20
"""Bytes below which the expansion ratio means nothing: a tar of empty files compresses well."""

_WINDOW = 128 << 20
"""Bytes that zstandard may look back, for which it takes as much memory: the window of its highest level."""

_ZIP_DIRECTORY = 1 << 16
"""Bytes of a zip's directory, which has three members in a package."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How far an archive may expand, in bytes and as a multiple of its own size, and how much it may list."""

    expanded: int = 64 << 30
    ratio: float = 500
    paths: int = 300_000
    """Files, links and directories. The largest existing packages have half as many."""
    info: int = 96 << 20
    """Bytes of all `info/` files that condery reads: what so many paths take with their hashes."""
    text: int = 32 << 20
    """Characters of all paths, link targets and directories, each kind by itself."""


DEFAULT_LIMITS = ArchiveLimits()


def verify(path: Path, package: str, size: int | None, sha256: str | None, md5: str | None) -> None:
    """Check a whole archive against its record, by md5 only if there is no sha256. Raises PackageRefused."""
    try:
        found_size = os.stat(path).st_size
        if size is not None and found_size != size:
            raise PackageRefused(package, f"the archive has {found_size} bytes, but its channel's record says {size}")
        algorithm, expected = ("sha256", sha256) if sha256 else ("md5", md5)
        if not expected:
            raise PackageRefused(package, "its channel's record has neither sha256 nor md5")
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise PackageRefused(package, f"the archive cannot be read ({error.strerror})") from error
    if found != expected.lower():
        raise PackageRefused(package, f"the archive has {algorithm} {found}, but its channel's record says {expected}")


@dataclass(frozen=True, slots=True)
class InfoFile:
    """One file in `info/`: its content, and its member's mtime in seconds."""

    content: bytes
    mtime: int


def has_two_tars(path: Path, package: str) -> bool:
    """Whether the archive is a `.conda`. Raises PackageRefused if it cannot be read."""
    with _open(path, package) as file:
        return _is_zip(file)


def _is_zip(file: BinaryIO) -> bool:
    magic = file.read(4)
    file.seek(0)
    return magic == _ZIP


@contextlib.contextmanager
def payload(
    path: Path, package: str, limits: ArchiveLimits = DEFAULT_LIMITS, sink: Sink | None = None, part: Part = "pkg"
) -> Iterator[TarReader]:
    """Open the archive's tar of installed files, to be read once from its start. Raises PackageRefused.

    In a `.tar.bz2` it also holds `info/`. Pass each member's name to `check_name` before trusting it.
    """
    with _refusing(package), _open(path, package) as file:
        yield TarReader(_Bounded(_open_tar(file, part), os.fstat(file.fileno()).st_size, limits), sink)


@dataclass(frozen=True, slots=True)
class Info:
    """The wanted files in `info/`, by their names there."""

    files: dict[str, InfoFile]
    strays: bool
    """Whether the info tar of a `.conda` has anything but files in `info/`. Other archives have only one tar."""


def read_info(
    path: Path,
    package: str,
    wanted: Collection[str],
    enough: Callable[[dict[str, InfoFile]], bool],
    limits: ArchiveLimits = DEFAULT_LIMITS,
) -> Info:
    """Read the `wanted` files (names without `info/`) that the archive has. Raises PackageRefused.

    The info tar of a `.conda` is read to its end. Reading a `.tar.bz2` stops once `enough` accepts what was found:
    `info/` is usually at the start but may be anywhere, and only decompressing everything shows that a file is missing.
    """
    found: dict[str, InfoFile] = {}
    strays = False
    total = 0
    with _refusing(package), _open(path, package) as file:
        two_tars = _is_zip(file)
        reader = TarReader(_Bounded(_open_tar(file, "info"), os.fstat(file.fileno()).st_size, limits))
        for member in reader:
            folder, _, name = check_name(member.name).partition("/")
            if folder != "info" or member.kind != FILE:
                strays = strays or two_tars
                continue
            if name not in wanted:
                continue
            if name in found:
                # which of them others read depends on how they unpack
                raise TarError(f"member info/{name} occurs twice")
            total += member.size
            if total > limits.info:
                raise TarError(f"its info/ files have more than the allowed {limits.info} bytes")
            found[name] = InfoFile(b"".join(map(bytes, reader.chunks())), member.mtime)
            if not two_tars and enough(found):
                break
    return Info(found, strays)


def check_name(name: str) -> str:
    """Normalize a member's name (`./a//b` becomes `a/b`). Raises TarError for one that leads out of the archive."""
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise TarError(f"member {name!r} leads out of the archive")
    return posixpath.normpath(name)


def check_member(member: Member) -> None:
    """Raises TarError for what no package may hold: device nodes, fifos, links that lead out of the archive."""
    if member.kind not in (FILE, HARD_LINK, SYMLINK, DIRECTORY):
        raise TarError(f"member {member.name!r} is neither file, link nor directory (tar type {member.kind!r})")
    if member.kind == HARD_LINK:
        check_name(member.link)


@contextlib.contextmanager
def _refusing(package: str) -> Iterator[None]:
    """Turn the errors of lower layers about a broken archive into PackageRefused."""
    try:
        yield
    except TarError as error:
        raise PackageRefused(package, f"its archive is not sound: {error}") from error
    except (zipfile.BadZipFile, struct.error, NotImplementedError) as error:
        raise PackageRefused(package, f"its archive is not a sound zip file ({error})") from error
    except zstandard.ZstdError as error:
        raise PackageRefused(package, f"its archive is not sound zstandard data ({error})") from error
    except EOFError as error:
        raise PackageRefused(package, "its archive is truncated") from error


def _open(path: Path, package: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise PackageRefused(package, f"the archive cannot be read ({error.strerror})") from error


def _open_tar(file: BinaryIO, part: Part) -> _Source:
    """Open the decompressed tar `part` (pkg or info) of an open archive. In a `.tar.bz2` both are the same tar."""
    magic = file.read(4)
    file.seek(0)
    if magic == _ZIP:
        stored = cast(BinaryIO, _find_range(file, part))  # zstandard uses only the file's `read`
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        return decompressor.stream_reader(stored, read_size=_CHUNK, read_across_frames=True)
    if magic[:3] == b"BZh":
        return _Bzip2(file)
    raise TarError("it is neither a .conda nor a .tar.bz2 file")


class _Source(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...


class _Bzip2:
    """bz2.BZ2File, with its OSError for unsound data told apart from a disk error."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = bz2.BZ2File(file)

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            if error.errno is not None:
                raise
            raise TarError(f"it is not sound bzip2 data ({error})") from None


class _Bounded:
    """A decompressing source that stops at the limits."""

    def __init__(self, source: _Source, compressed: int, limits: ArchiveLimits) -> None:
        self._source = source
        by_ratio = int(max(_SMALL, compressed * limits.ratio))
        self._setting = "max_expanded" if limits.expanded <= by_ratio else "max_ratio"
        self._left = self._limit = min(limits.expanded, by_ratio)

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._source.readinto(buffer) or 0
        self._left -= count
        if self._left < 0:
            raise TarError(f"it expands to more than the allowed {self._limit} bytes ({self._setting})")
        return count


class _SmallReads(io.RawIOBase):
    """A file that refuses to give zipfile a large piece: zipfile makes an object of each member in the directory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, count: int = -1, /) -> bytes:
        if count > _ZIP_DIRECTORY + zipfile.ZIP_MAX_COMMENT:
            raise TarError(f"the zip's directory has {count} bytes")
        return self._file.read(count)

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


class _Range:
    """`length` bytes of an open file from its current position, for zstandard to read."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(min(count, self._left) if count >= 0 else self._left)
        self._left -= len(data)
        return data


_LOCAL = struct.Struct("<4s22xHH")


def _find_range(file: BinaryIO, part: Part) -> _Range:
    """Find the stored member `<part>-*.tar.zst` of a zip.

    The directory's claims about it are checked against the file.
    """
    with zipfile.ZipFile(_SmallReads(file)) as archive:
        directory_start = archive.start_dir
        entries = [
            entry
            for entry in archive.infolist()
            if entry.filename.startswith(f"{part}-") and entry.filename.endswith(".tar.zst")
        ]
    if len(entries) != 1:
        raise TarError(f"it has {len(entries)} members {part}-*.tar.zst; exactly one is expected")
    (entry,) = entries
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise TarError(f"{entry.filename} is compressed or encrypted in the zip; it must be stored")
    file.seek(entry.header_offset)
    signature, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
    start = entry.header_offset + _LOCAL.size + name_length + extra_length
    if (
        signature != b"PK\x03\x04"
        or entry.file_size != entry.compress_size
        or start + entry.file_size > directory_start
    ):
        raise TarError(f"the zip's directory is wrong about where {entry.filename} is")
    file.seek(start)
    return _Range(file, entry.file_size)
