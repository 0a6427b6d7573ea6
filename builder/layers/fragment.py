"""One package as a compressed run of tar members: under the fixed prefix, or as packaged, to be unpacked anywhere.

A fragment has no directory members (docker refuses a path that occurs twice in a layer, so each layer writes its own
directories once) and no end-of-archive. It is a complete stream of the codec; fragments are joined by concatenation.
Its bytes are a function of its recipe alone.

  <root>/fragments/ab/<key>         the compressed members
  <root>/fragments/ab/<key>.json    the facts about them: a line with the FragmentInfo, a line with the files whose
                                    prefix is still to be replaced, a line with the files that start an environment,
                                    and the paths of the prefix record
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import orjson

from builder.archives.file_part import FilePart
from builder.canonical import make_key
from builder.layers.codec import CODEC
from builder.packages.contents import PackageContents, Placeholder, PythonLayout
from builder.packages.starting_files import StartingFiles
from storage.clock import USE_SECONDS, is_within
from storage.disk.files import atomic_write

FORMAT = 2
"""Part of every fragment's key: raise it when the same recipe gives other bytes, or other facts beside them."""

WHEEL_FORMAT = 1
"""The same for wheels."""


@dataclass(frozen=True)
class FragmentRecipe:
    """Everything on which a fragment's bytes depend."""

    archive_key: str
    prefix: str
    python: PythonLayout | None = None
    """Set for a noarch python package and for a wheel."""
    excluded: tuple[str, ...] = ()
    """Paths under the prefix that another package wins, sorted."""
    codec: str = CODEC.name
    relocatable: bool = False
    """Whether it is for an archive that can be unpacked anywhere: files at the archive's root, placeholders
    unchanged."""
    wheel: bool = False
    """Whether the archive is read as a wheel; a zip file can be a conda package too."""

    @classmethod
    def of(
        cls,
        archive_key: str,
        contents: PackageContents,
        prefix: str,
        excluded: tuple[str, ...] = (),
        *,
        relocatable: bool = False,
    ) -> Self:
        return cls(
            archive_key,
            prefix,
            contents.python,
            tuple(sorted(excluded)),
            relocatable=relocatable,
            wheel=contents.wheel is not None,
        )

    @cached_property
    def key(self) -> str:
        """The fragment's name: 64 hex digits."""
        python = [self.python.version, self.python.site_packages] if self.python else None
        kind = "relocatable fragment" if self.relocatable else "fragment"
        if self.wheel:
            return make_key(
                f"{kind} of a wheel",
                [WHEEL_FORMAT, self.codec, self.archive_key, self.prefix, python, list(self.excluded)],
            )
        return make_key(kind, [FORMAT, self.codec, self.archive_key, self.prefix, python, list(self.excluded)])


@dataclass(frozen=True)
class FragmentInfo:
    """Facts about a fragment; sizes in bytes."""

    key: str
    size: int
    uncompressed_size: int
    differences: Sequence[str] = ()
    """Where the archive differs from its own listing, a line each, for the image's report."""

    def to_json(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "uncompressed_size": self.uncompressed_size,
            "differences": list(self.differences),
        }

    @classmethod
    def from_json(cls, key: str, document: Mapping[str, Any]) -> Self:
        return cls(key, document["size"], document["uncompressed_size"], tuple(document["differences"]))


def read_info(path: Path) -> FragmentInfo | None:
    """Read the facts about the fragment at `path`.

    Returns None unless fragment and sidecar exist and agree on the size.
    """
    with contextlib.suppress(FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        with open(_name_sidecar(path), "rb") as sidecar:
            info = FragmentInfo.from_json(path.name, orjson.loads(sidecar.readline()))
        if path.stat().st_size == info.size:
            return info
    return None


def read_relocations(path: Path) -> dict[str, Placeholder]:
    """Read which files of the fragment at `path`, by path in the archive, get their prefix when they are unpacked.

    Raises FileNotFoundError.
    """
    with open(_name_sidecar(path), "rb") as sidecar:
        sidecar.readline()
        return {name: Placeholder(*row) for name, row in orjson.loads(sidecar.readline()).items()}


def read_starting_files(path: Path) -> StartingFiles:
    """Read the files that start an environment from the fragment at `path`. Raises FileNotFoundError."""
    with open(_name_sidecar(path), "rb") as sidecar:
        sidecar.readline()
        sidecar.readline()
        return StartingFiles.from_json(orjson.loads(sidecar.readline()))


def read_paths(path: Path) -> FilePart:
    """Locate the paths for the package's prefix record: `write_paths` of the fragment at `path`.

    Raises FileNotFoundError.
    """
    with open(_name_sidecar(path), "rb") as sidecar:
        return FilePart.of(_name_sidecar(path), sum(len(sidecar.readline()) for _ in range(3)))


def write_sidecar(
    path: Path,
    info: FragmentInfo,
    relocations: Mapping[str, Placeholder],
    starting: StartingFiles,
    paths: Iterable[bytes],
) -> None:
    """Keep the facts about the fragment at `path` beside it, one line per reader. Raises StorageFull.

    The server's own process reads the first line, so it must be short.
    """
    with atomic_write(_name_sidecar(path), durable=False, scratch=path.parents[1]) as file:
        file.write(orjson.dumps(info.to_json()) + b"\n")
        file.write(orjson.dumps({name: list(each) for name, each in relocations.items()}) + b"\n")
        file.write(orjson.dumps(starting.to_json()) + b"\n")
        file.writelines(paths)


def note_fragment_use(path: Path) -> None:
    """Note in the sidecar's mtime, to within USE_SECONDS, that the fragment at `path` was used. Eviction reads it."""
    with contextlib.suppress(FileNotFoundError):
        if not is_within(USE_SECONDS, _name_sidecar(path).stat().st_mtime):
            os.utime(_name_sidecar(path))


def _name_sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")
