"""Just enough of ELF (System V ABI, chapters 4 and 5) to find the libraries and the loader that a file needs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 15, 29


@dataclass(frozen=True)
class ElfFile:
    """What the dynamic loader reads in a program or library."""

    kind: tuple[int, int, int]
    """Class (32 or 64 bit), byte order and machine. A program needs libraries of its own kind."""
    interpreter: str | None
    is_dynamic: bool
    """Whether it has a dynamic section; without one nothing is needed."""
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    """Directories of DT_RPATH, which also apply to the libraries that it loads."""
    runpath: tuple[str, ...]
    """Directories of DT_RUNPATH. If there are any, the loader ignores DT_RPATH."""

    @property
    def search(self) -> tuple[str, ...]:
        """Directories in which the loader looks for what is needed, before its own."""
        return self.runpath or self.rpath


@dataclass(frozen=True)
class _Segment:
    type: int
    offset: int
    address: int
    size: int


def read_elf(path: Path) -> ElfFile | None:
    """Read the ELF file at `path`. Returns None for anything else, such as a script, and for a damaged file."""
    try:
        return parse_elf(path.read_bytes())
    except ValueError:
        return None


def parse_elf(data: bytes) -> ElfFile | None:
    """Parse a whole file. Returns None for one that is not ELF. Raises ValueError for a damaged one."""
    if data[:4] != b"\x7fELF":
        return None
    try:
        return _parse(data)
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _parse(data: bytes) -> ElfFile:
    wide = data[4] == 2
    order = "<" if data[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", data, 18)
    segments = _read_segments(data, order, wide)
    interpreter = next((_read_text(data, segment.offset) for segment in segments if segment.type == _PT_INTERP), None)
    entries = list(_read_dynamic(data, order, wide, segments))
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), 0)

    def texts(wanted: int) -> list[str]:
        return [_read_text(data, _find_offset(segments, strings + value)) for tag, value in entries if tag == wanted]

    def directories(wanted: int) -> tuple[str, ...]:
        return tuple(part for text in texts(wanted) for part in text.split(":") if part)

    return ElfFile(
        kind=(data[4], data[5], machine),
        interpreter=interpreter,
        is_dynamic=bool(entries),
        needed=tuple(texts(_DT_NEEDED)),
        rpath=directories(_DT_RPATH),
        runpath=directories(_DT_RUNPATH),
    )


def _read_segments(data: bytes, order: str, wide: bool) -> list[_Segment]:
    table, (size, count) = (
        struct.unpack_from(order + ("Q" if wide else "I"), data, 32 if wide else 28)[0],
        struct.unpack_from(order + "HH", data, 54 if wide else 42),
    )
    segments = []
    for index in range(count):
        at = table + index * size
        if wide:
            kind, _, offset, address, _, length = struct.unpack_from(order + "IIQQQQ", data, at)
        else:
            kind, offset, address, _, length = struct.unpack_from(order + "IIIII", data, at)
        segments.append(_Segment(kind, offset, address, length))
    return segments


def _read_dynamic(data: bytes, order: str, wide: bool, segments: list[_Segment]) -> Iterator[tuple[int, int]]:
    """Yield tag and value of each entry."""
    entry = struct.Struct(order + ("QQ" if wide else "II"))
    found = next((segment for segment in segments if segment.type == _PT_DYNAMIC), None)
    if found is None:
        return
    table = data[found.offset : found.offset + found.size]
    if len(table) < found.size:
        raise ValueError("its dynamic section is truncated")
    for tag, value in entry.iter_unpack(table[: found.size - found.size % entry.size]):
        if tag == _DT_NULL:
            return
        yield tag, value


def _find_offset(segments: list[_Segment], address: int) -> int:
    for segment in segments:
        if segment.type == _PT_LOAD and segment.address <= address < segment.address + segment.size:
            return address - segment.address + segment.offset
    raise ValueError(f"its address {address:#x} is in no segment")


def _read_text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode("utf-8", "surrogateescape")
