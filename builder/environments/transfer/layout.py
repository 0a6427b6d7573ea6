"""Reads an OCI layout that somebody else wrote: a directory, or a tar, of which nothing is unpacked.

Files are found by the paths that a layout gives them, and by no others. Of a tar only headers are read before: where
each of these files is. Functions block.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Protocol

from builder.base.layout_files import INDEX_NAME, MARKER_NAME, locate_blob
from builder.environments.inputs.fields import need, need_list, need_mapping
from builder.environments.transfer.document import read_descriptor
from builder.environments.transfer.vocabulary import ENVIRONMENT_TYPE, LARGEST_MANIFEST
from builder.errors import InputInvalid
from storage import strict_json
from storage.digest import Descriptor, Digest, new_hasher
from storage.errors import quote
from storage.objects.segments import CHUNK
from storage.oci import OCI_MANIFEST

MOST_MEMBERS = 500_000
_BLOCK = 512
_LARGEST_RECORD = 64 << 10
"""Bytes of a member that only describes the next one."""
_PATH = re.compile(r"oci-layout|index\.json|blobs/(sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128})")
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ", b"PK")
_MOST_ENTRIES = 100_000


class Files(Protocol):
    def open(self, name: str) -> tuple[IO[bytes], int]:
        """A file by its path in the layout, to be closed, and its size in bytes. Raises FileNotFoundError, OSError."""


class DirectoryFiles:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, name: str) -> tuple[IO[bytes], int]:
        # a link or a pipe is not followed or waited for: it leads out of the layout
        number = os.open(self._directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        file = os.fdopen(number, "rb")
        state = os.fstat(number)
        if not stat.S_ISREG(state.st_mode):
            file.close()
            raise InputInvalid(name, "it is not a regular file")
        return file, state.st_size


class TarFiles:
    def __init__(self, path: Path) -> None:
        self._path = path
        with open(path, "rb") as file:
            self._places = find_members(file, os.fstat(file.fileno()).st_size)

    def open(self, name: str) -> tuple[IO[bytes], int]:
        if name not in self._places:
            raise FileNotFoundError(name)
        start, size = self._places[name]
        file = open(self._path, "rb")  # noqa: SIM115 - closed by its reader
        file.seek(start)
        return file, size


def find_members(file: IO[bytes], length: int) -> dict[str, tuple[int, int]]:
    """The start and the size of each file of a layout in a tar of `length` bytes. Raises InputInvalid."""
    found: dict[str, tuple[int, int]] = {}
    if file.read(len(max(_PACKED, key=len))).startswith(_PACKED):
        raise InputInvalid("", "it is compressed; decompress it first, so that it is a .tar")
    for count, (name, start, size) in enumerate(_list_files(file, length)):
        if name in found:
            raise InputInvalid("", f"it has {quote(name)} twice")
        if count >= MOST_MEMBERS:
            raise InputInvalid("", f"it has more than {MOST_MEMBERS} members")
        if _PATH.fullmatch(name):
            found[name] = start, size
    return found


def _list_files(file: IO[bytes], length: int) -> Iterator[tuple[str, int, int]]:
    """The name, the start and the size of each file. Directories are passed over."""
    position, longer = 0, dict[str, str]()
    while (member := _read_header(file, position)) is not None:
        start = position + _BLOCK
        name, size = longer.get("path", member.name), int(longer.get("size", member.size))
        if size < 0 or start + size > length:
            raise InputInvalid("", f"it is cut off: what is at byte {position} is longer than it")
        position = start + (size + _BLOCK - 1) // _BLOCK * _BLOCK
        if member.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            longer |= _read_record(file, start, size, member.type)
            continue
        longer = {}
        if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
            yield name.removeprefix("./"), start, size
        elif member.type not in (tarfile.DIRTYPE, tarfile.XGLTYPE):
            raise InputInvalid(
                "", f"{quote(name)} is a link or no file at all; a layout has only files and directories"
            )


def _read_header(file: IO[bytes], position: int) -> tarfile.TarInfo | None:
    """None at the end."""
    file.seek(position)
    try:
        return tarfile.TarInfo.frombuf(file.read(_BLOCK), "utf-8", "surrogateescape")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed leaves it out
        return None
    except tarfile.HeaderError as error:
        raise InputInvalid("", f"it is not a whole tar archive (byte {position}: {error})") from None


def _read_record(file: IO[bytes], start: int, size: int, kind: bytes) -> dict[str, str]:
    """What a record says of the next member: its path and its size. Raises InputInvalid."""
    if size > _LARGEST_RECORD:
        raise InputInvalid("", f"it has a record of {size} bytes; at most {_LARGEST_RECORD} are allowed")
    file.seek(start)
    content = file.read(size)
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    found, at = {}, 0
    while at < len(content):
        digits, space, _ = content[at : at + 10].partition(b" ")
        if not space or not digits.isdigit() or not len(digits) + 3 <= int(digits) <= len(content) - at:
            raise InputInvalid("", "a record in the tar cannot be read")
        key, _, value = content[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        if key == b"path" or (key == b"size" and value.isdigit() and len(value) < 20):
            found[key.decode()] = value.decode("utf-8", "surrogateescape")
        at += int(digits)
    return found


class Layout:
    """Blobs by their descriptors. What is returned whole is verified; raises InputInvalid, JsonInvalid."""

    def __init__(self, files: Files) -> None:
        self._files = files

    @classmethod
    def of(cls, path: Path) -> Layout:
        """A directory or a tar. Raises InputInvalid if it is no layout."""
        try:
            layout = cls(DirectoryFiles(path) if path.is_dir() else TarFiles(path))
        except OSError as error:
            raise InputInvalid("", f"{path} cannot be read: {error.strerror}") from None
        marker = need_mapping(strict_json.parse(layout._read(MARKER_NAME, 4096)), MARKER_NAME)
        if not str(marker.get("imageLayoutVersion", "")).startswith("1."):
            raise InputInvalid(MARKER_NAME, "it is no OCI layout of version 1")
        return layout

    def find_artifact(self) -> Descriptor:
        """The one exported environment in the layout."""
        index = need_mapping(strict_json.parse(self._read(INDEX_NAME, 16 << 20)), INDEX_NAME)
        entries = need_list(need(index, "manifests", INDEX_NAME), f"{INDEX_NAME}: manifests", _MOST_ENTRIES)
        found = [
            (place, each)
            for place, each in enumerate(entries)
            if isinstance(each, dict) and each.get("artifactType") == ENVIRONMENT_TYPE
        ]
        if len(found) != 1:
            raise InputInvalid(
                INDEX_NAME, f"it has {len(found)} exported environments, and an import takes one; see docs/export.md"
            )
        [(place, entry)] = found
        descriptor = read_descriptor(entry, f"{INDEX_NAME}: manifests[{place}]", LARGEST_MANIFEST)
        if descriptor.media_type != OCI_MANIFEST:
            raise InputInvalid(INDEX_NAME, f"the exported environment is no {OCI_MANIFEST}")
        return descriptor

    def read_small(self, descriptor: Descriptor) -> bytes:
        """The whole content of a blob, whose size the descriptor's reader has bounded."""
        content = b"".join(self.read(descriptor))
        if Digest.of(content, descriptor.digest.algorithm) != descriptor.digest:
            raise InputInvalid(locate_blob(descriptor.digest), "its bytes have another digest; the archive is damaged")
        return content

    def read_verified(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The content of a blob in chunks; an error at its end if it has another digest."""
        hasher = new_hasher(descriptor.digest.algorithm)
        for chunk in self.read(descriptor):
            hasher.update(chunk)
            yield chunk
        if Digest.of_hasher(hasher) != descriptor.digest:
            raise InputInvalid(locate_blob(descriptor.digest), "its bytes have another digest; the archive is damaged")

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The content of a blob in chunks, which nothing has verified but its size."""
        name = locate_blob(descriptor.digest)
        with self._open(name) as (file, size):
            if size != descriptor.size:
                raise InputInvalid(name, f"it has {size} bytes, but its descriptor says {descriptor.size}")
            left = size
            while left:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise InputInvalid(name, "it is cut off")
                left -= len(chunk)
                yield chunk

    def check(self, descriptors: Mapping[Digest, Descriptor]) -> None:
        """Whether all blobs are there, with their sizes."""
        for descriptor in descriptors.values():
            name = locate_blob(descriptor.digest)
            with self._open(name) as (_, size):
                if size != descriptor.size:
                    raise InputInvalid(name, f"it has {size} bytes, but its descriptor says {descriptor.size}")

    def _read(self, name: str, largest: int) -> bytes:
        with self._open(name) as (file, size):
            if size > largest:
                raise InputInvalid(name, f"it has {size} bytes; at most {largest} are allowed")
            return file.read(size)

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        try:
            file, size = self._files.open(name)
        except FileNotFoundError:
            raise InputInvalid(name, "it is missing, so this is no exported environment, or not all of it") from None
        except OSError as error:
            raise InputInvalid(name, f"it cannot be read: {error.strerror}") from None
        with file:
            yield file, size
