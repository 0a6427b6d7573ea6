"""Joins fragments into a layer, in one pass over its bytes.

A layer blob is the join of a compressed stream of all directories that its fragments need (parents first, each once),
the fragments in order, and a stream with the end-of-archive. Streams of the codec (gzip members) and runs of tar
members concatenate, so nothing is compressed twice; the only cost of a layer is hashing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from builder.archives import tar
from builder.archives.archive import DEFAULT_LIMITS, ArchiveLimits
from builder.archives.tar import add_parents
from builder.canonical import make_key
from builder.errors import BuilderError
from builder.layers.codec import CODEC, Broken
from builder.layers.compressor import Compressor
from builder.layers.fragment import FragmentInfo, FragmentRecipe, note_fragment_use, read_info
from builder.layers.transcoding import transcode
from builder.locks.lock import LockedPackage
from builder.packages.contents import PackageContents
from builder.packages.inspection import inspect
from builder.work.worker import working_on
from storage.blobs.joins import FragmentPart, Join, Layer, Part
from storage.digest import Digest
from storage.errors import StorageError
from storage.layout import DataDirectory

FORMAT = 1
"""Part of every layer's key: raise it when the same fragments join to other bytes."""


@dataclass(frozen=True)
class FragmentTask:
    """A fragment that a layer needs, and what it takes to make it."""

    recipe: FragmentRecipe
    package: LockedPackage
    archive: Path


@dataclass(frozen=True)
class LayerTask:
    """Everything that `assemble` needs, in picklable form."""

    data: DataDirectory
    prefix: str
    fragments: tuple[FragmentTask, ...]
    limits: ArchiveLimits = DEFAULT_LIMITS

    @cached_property
    def key(self) -> str:
        """The layer's name before its bytes are known: 64 hex digits."""
        return make_key("layer", [FORMAT, self.prefix, [fragment.recipe.key for fragment in self.fragments]])

    def path(self, fragment: FragmentTask) -> Path:
        return self.data.fragment(fragment.recipe.key)


@dataclass(frozen=True)
class AssembledLayer:
    """A layer whose fragments all exist. `digest` and `size` describe the compressed bytes; sizes in bytes."""

    key: str
    digest: Digest
    diff_id: Digest
    size: int
    uncompressed_size: int
    fragments: tuple[FragmentInfo, ...] = ()
    """The fragments of the layer's packages, in the layer's order."""
    parts: tuple[Part, ...] = ()
    """The join to store; empty for a layer that is stored already."""

    @property
    def to_store(self) -> Layer:
        return Layer(self.key, Join(self.digest, self.parts), self.diff_id, self.uncompressed_size)


def assemble(task: LayerTask) -> AssembledLayer:
    """Make a layer: reuse the fragments that exist and transcode the others. The caller stores the layer.

    Raises PackageRefused, StorageFull.
    """
    join = _Join(task)
    join.add_directories()
    join.add_fragments()
    join.add_bytes([tar.END])
    return AssembledLayer(
        key=task.key,
        digest=Digest(f"sha256:{join.compressed.hexdigest()}"),
        diff_id=Digest(f"sha256:{join.uncompressed.hexdigest()}"),
        size=sum(len(part) if isinstance(part, bytes) else part.size for part in join.parts),
        uncompressed_size=join.uncompressed_size,
        fragments=tuple(join.infos),
        parts=tuple(join.parts),
    )


def assemble_all(tasks: Sequence[LayerTask]) -> list[AssembledLayer | BuilderError | StorageError]:
    """`assemble` each task, so that a worker is called once for all of them. A failed task's error takes its place."""
    made: list[AssembledLayer | BuilderError | StorageError] = []
    for task in tasks:
        try:
            made.append(assemble(task))
        except (BuilderError, StorageError) as error:
            made.append(error)
    return made


def find_fragments(task: LayerTask) -> tuple[FragmentInfo, ...] | None:
    """Read the facts about the layer's fragments and note their use. Returns None unless all of them exist."""
    infos = []
    for fragment in task.fragments:
        info = read_info(task.path(fragment))
        if info is None:
            return None
        note_fragment_use(task.path(fragment))
        infos.append(info)
    return tuple(infos)


class _Join:
    """A layer in the making, with both of its hashes."""

    def __init__(self, task: LayerTask) -> None:
        self._task = task
        self._contents = [
            inspect(each.archive, each.package, each.recipe.python, task.data.contents, task.limits)
            for each in task.fragments
        ]
        self.compressed = hashlib.sha256()
        self.uncompressed = hashlib.sha256()
        self.uncompressed_size = 0
        self.parts: list[Part] = []
        self.infos: list[FragmentInfo] = []

    def add_bytes(self, pieces: Iterable[bytes]) -> None:
        """Add tar bytes as a stream that the join itself holds."""
        out: list[bytes] = []
        compressor = Compressor(out.append, self.compressed, self.uncompressed)
        for piece in pieces:
            compressor.add(piece)
        compressor.finish()
        self.parts.append(b"".join(out))
        self.uncompressed_size += compressor.uncompressed_size

    def add_directories(self) -> None:
        root = self._task.prefix.strip("/")
        paths = set(add_parents([f"{root}/x"]))
        for contents in self._contents:
            paths.update(f"{root}/{directory}" for directory in contents.directories)
        self.add_bytes(tar.make_directory(path) for path in sorted(paths))

    def add_fragments(self) -> None:
        for fragment, contents in zip(self._task.fragments, self._contents, strict=True):
            self._add_fragment(fragment, contents)

    def _add_fragment(self, fragment: FragmentTask, contents: PackageContents) -> None:
        path = self._task.path(fragment)
        with working_on(contents.package):
            info = self._add_stored(path) or transcode(
                fragment.recipe,
                contents,
                fragment.archive,
                path,
                self.compressed,
                self.uncompressed,
                self._task.limits,
            )
        self.parts.append(FragmentPart(info.key, info.size))
        self.infos.append(info)
        self.uncompressed_size += info.uncompressed_size

    def _add_stored(self, path: Path) -> FragmentInfo | None:
        """Hash a fragment that exists. Returns None, with nothing hashed, if there is none or it is broken."""
        info = read_info(path)
        if info is None:
            return None
        compressed, uncompressed = self.compressed.copy(), self.uncompressed.copy()
        try:
            size = 0
            for packed, plain in expand_fragment(path):
                compressed.update(packed)
                uncompressed.update(plain)
                size += len(plain)
        except (FileNotFoundError, Broken):
            return None
        if size != info.uncompressed_size:
            return None
        self.compressed, self.uncompressed = compressed, uncompressed
        note_fragment_use(path)
        return info


def check_fragment(path: Path) -> FragmentInfo | None:
    """Read the whole fragment at `path` and return the facts about it, or None if there is none or it is broken."""
    info = read_info(path)
    if info is None:
        return None
    try:
        size = sum(len(plain) for _, plain in expand_fragment(path))
    except (FileNotFoundError, Broken):
        return None
    return info if size == info.uncompressed_size else None


def expand_fragment(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield a fragment's compressed and plain bytes in step. Raises FileNotFoundError, or Broken if it is damaged."""
    with open(path, "rb") as file:
        yield from CODEC.expand(file)
