"""conda-pack's format: how an archive of an environment gets by without knowing where it will be unpacked.

Files keep the placeholder they were packaged with. `bin/conda-unpack` has a table of them, and writes the place into
each where it is unpacked; scripts whose first line alone names the prefix find their interpreter by `env` instead. Both
are conda-pack's own code and templates, and nothing of a package is run or unpacked for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conda_pack import __version__ as conda_pack_version
from conda_pack.core import Packer, rewrite_shebang

from builder.file_part import FilePart
from builder.prefix import Mode

VERSION: str = conda_pack_version

LARGEST_SCRIPT = 8 << 20
"""Bytes above which a script keeps its first line, and conda-unpack has to change it: it would have to be in memory."""

Relocation = tuple[str, str, Mode]
"""A file that holds a prefix: its path in the archive, the prefix, and how it is to be replaced."""


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file of the archive that is no package's."""

    path: str
    content: bytes
    mode: int = 0o644
    rest: FilePart | None = None
    """What follows `content`."""

    @property
    def size(self) -> int:
        return len(self.content) + (self.rest.size if self.rest else 0)


def is_script(target: str, mode: Mode) -> bool:
    """Whether conda-pack tries to do without a prefix in the file `target`."""
    return mode == "text" and target.startswith("bin/")


def without_prefix(content: bytes, target: str, prefix: str) -> bytes | None:
    """A script that finds its interpreter by `env`; None where its first line is not the one place with `prefix`."""
    try:
        changed, independent = rewrite_shebang(content, target, prefix)
    except UnicodeDecodeError:
        return None
    return bytes(changed) if independent else None


def own_files(relocations: Iterable[Relocation]) -> list[OwnFile]:
    """What conda-pack adds to an environment: scripts to activate it, and `bin/conda-unpack` for `relocations`."""
    files: list[OwnFile] = []
    packer = _Finish("", _Collector(files))
    packer.prefixes = list(relocations)
    packer.finish()
    return files


@cache
def own_paths() -> frozenset[str]:
    """The paths of `own_files`, whatever there is to relocate."""
    return frozenset(file.path for file in own_files(()))


class _Collector:
    """What conda-pack calls an archive: it takes files by their path on this machine."""

    def __init__(self, files: list[OwnFile]) -> None:
        self.files = files

    def add(self, source: str, target: str) -> None:
        self.files.append(OwnFile(target, Path(source).read_bytes()))


class _Finish(Packer):  # type: ignore[misc]  # conda-pack has no types
    """conda-pack's last step without its way through temporary files."""

    def _write_text_file(self, fpath: str, ftext: str, executable: bool = False) -> None:
        self.archive.files.append(OwnFile(fpath, ftext.encode(), 0o755 if executable else 0o644))
