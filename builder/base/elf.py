"""Just enough of ELF (System V ABI, chapters 4 and 5) to find the libraries and the loader that a file needs."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29


@dataclass(frozen=True)
class ElfFile:
    """What the dynamic loader reads in a program or library."""

    kind: tuple[int, int, int]
    """Class (32 or 64 bit), byte order and machine. A program needs libraries of its own kind."""
    interpreter: str | None
    needed: tuple[str, ...]
    run_paths: tuple[str, ...]


@dataclass(frozen=True)
class _Segment:
    type: int
    offset: int
    address: int
    size: int


def read_elf(path: Path) -> ElfFile | None:
    """Read the ELF file at `path`. Returns None for anything else, such as a script, and for a truncated file."""
    data = path.read_bytes()
    if data[:4] != b"\x7fELF" or len(data) < 64:
        return None
    try:
        return _parse(data)
    except (struct.error, ValueError):
        return None


def _parse(data: bytes) -> ElfFile:
    wide = data[4] == 2
    order = "<" if data[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", data, 18)
    segments = _read_segments(data, order, wide)
    interpreter = next(
        (_read_text(data, segment.offset) for segment in segments if segment.type == _PT_INTERP),
        None,
    )
    entries = _read_dynamic(data, order, wide, segments)
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), 0)

    def texts(*tags: int) -> list[str]:
        return [_read_text(data, _find_offset(segments, strings + value)) for tag, value in entries if tag in tags]

    run_paths = [part for text in texts(_DT_RPATH, _DT_RUNPATH) for part in text.split(":") if part]
    return ElfFile((data[4], data[5], machine), interpreter, tuple(texts(_DT_NEEDED)), tuple(run_paths))


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


def _read_dynamic(data: bytes, order: str, wide: bool, segments: list[_Segment]) -> list[tuple[int, int]]:
    entry = struct.Struct(order + ("QQ" if wide else "II"))
    found = next((segment for segment in segments if segment.type == _PT_DYNAMIC), None)
    if found is None:
        return []
    table = data[found.offset : found.offset + found.size]
    if len(table) < found.size:
        raise ValueError("the dynamic section is truncated")
    return [(tag, value) for tag, value in entry.iter_unpack(table) if tag]


def _find_offset(segments: list[_Segment], address: int) -> int:
    for segment in segments:
        if segment.type == _PT_LOAD and segment.address <= address < segment.address + segment.size:
            return address - segment.address + segment.offset
    raise ValueError(f"address {address:#x} is in no segment")


def _read_text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode("utf-8", "surrogateescape")
