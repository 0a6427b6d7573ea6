"""Joining fragments into a layer, in one pass over its bytes.

A layer blob is the join of a gzip member of all directories its fragments need (parents first, each once), the
fragments in order, and a gzip member of the end-of-archive. Gzip members and runs of tar members concatenate, so
nothing is compressed twice; what a layer costs is hashing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from isal import igzip_lib, isal_zlib

from builder import tar
from builder.archive import DEFAULT_LIMITS, Limits
from builder.canonical import key_of
from builder.contents import PackageContents, inspect
from builder.fragment import Compressor, FragmentInfo, FragmentRecipe, read_info, transcode
from builder.lock import LockedPackage
from storage.blobs import FileBlobStore, FragmentPart, Part
from storage.digest import Digest
from storage.errors import StorageError
from storage.files import atomic_write

FORMAT = 1
"""Part of every layer's key: raise it when the same fragments join to other bytes."""

_READ = 1 << 16
_EXPAND = 1 << 20


@dataclass(frozen=True)
class FragmentTask:
    """A fragment that a layer needs, and what it can be made from."""

    recipe: FragmentRecipe
    package: LockedPackage
    archive: Path


@dataclass(frozen=True)
class LayerTask:
    """Everything `assemble` needs to know, in picklable form.

    `root` is the data directory: blobs/, fragments/, contents/ and layers/ are below it.
    """

    root: Path
    prefix: str
    fragments: tuple[FragmentTask, ...]
    limits: Limits = DEFAULT_LIMITS

    @cached_property
    def key(self) -> str:
        """The layer's name before its bytes are known: 64 hex digits."""
        return key_of("layer", [FORMAT, self.prefix, [fragment.recipe.key for fragment in self.fragments]])


@dataclass(frozen=True)
class AssembledLayer:
    """A layer that is in the blob store. `digest` and `size` are of the compressed bytes; sizes in bytes."""

    key: str
    digest: Digest
    diff_id: Digest
    size: int
    uncompressed_size: int
    fragments: tuple[FragmentInfo, ...] = ()
    """Of the packages in the layer, in its order."""
    parts: tuple[Part, ...] = ()
    """What to store as the layer's join; none for a layer that is stored already."""


def assemble(task: LayerTask) -> AssembledLayer:
    """Make a layer: reuse fragments that are there, transcode those that are not. Its blob is stored by `keep`.

    A layer that was made before and is still stored is not read again. Raises PackageRefused, StorageFull.
    """
    blobs = FileBlobStore(task.root)
    return _recall(task, blobs) or _join(task, blobs)


def keep(task: LayerTask, layer: AssembledLayer) -> None:
    """Store an assembled layer's blob, and remember the layer; raises StorageFull.

    Apart from `assemble`, since it waits for the disk where the other keeps a processor busy.
    """
    if not layer.parts:
        return
    FileBlobStore(task.root).put_join(layer.digest, layer.parts)
    with atomic_write(_remembered(task), durable=False) as file:
        file.write(orjson.dumps(_to_json(layer)))


def _remembered(task: LayerTask) -> Path:
    return task.root / "layers" / task.key[:2] / f"{task.key}.json"


def _with_parents(paths: Iterable[str]) -> set[str]:
    """The directories above `paths`."""
    found: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return found


def _recall(task: LayerTask, blobs: FileBlobStore) -> AssembledLayer | None:
    """The layer as it was made before, if its blob and every fragment are still stored whole."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError, StorageError):
        document = orjson.loads(_remembered(task).read_bytes())
        digest = Digest.parse(document["digest"])
        infos = [read_info(blobs.fragment_path(fragment.recipe.key)) for fragment in task.fragments]
        if None in infos or blobs.size(digest) != document["size"]:
            return None
        return AssembledLayer(
            key=task.key,
            digest=digest,
            diff_id=Digest(document["diff_id"]),
            size=document["size"],
            uncompressed_size=document["uncompressed_size"],
            fragments=tuple(info for info in infos if info),
        )
    return None


def _to_json(layer: AssembledLayer) -> dict[str, Any]:
    return {
        "digest": layer.digest,
        "diff_id": layer.diff_id,
        "size": layer.size,
        "uncompressed_size": layer.uncompressed_size,
    }


def _join(task: LayerTask, blobs: FileBlobStore) -> AssembledLayer:
    join = _Join(task, blobs)
    join.add_directories()
    join.add_fragments()
    join.add_bytes([tar.END])
    digest = Digest(f"sha256:{join.compressed.hexdigest()}")
    return AssembledLayer(
        key=task.key,
        digest=digest,
        diff_id=Digest(f"sha256:{join.uncompressed.hexdigest()}"),
        size=sum(len(part) if isinstance(part, bytes) else part.size for part in join.parts),
        uncompressed_size=join.uncompressed_size,
        fragments=tuple(join.infos),
        parts=tuple(join.parts),
    )


class _Join:
    """A layer that grows; both hashes run along."""

    def __init__(self, task: LayerTask, blobs: FileBlobStore) -> None:
        self._task = task
        self._blobs = blobs
        self._contents = [
            inspect(each.archive, each.package, each.recipe.python, task.root / "contents", task.limits)
            for each in task.fragments
        ]
        self.compressed = hashlib.sha256()
        self.uncompressed = hashlib.sha256()
        self.uncompressed_size = 0
        self.parts: list[Part] = []
        self.infos: list[FragmentInfo] = []

    def add_bytes(self, pieces: Iterable[bytes]) -> None:
        """Tar bytes as a gzip member that the join holds itself."""
        out: list[bytes] = []
        compressor = Compressor(out.append, self.compressed, self.uncompressed)
        for piece in pieces:
            compressor.add(piece)
        compressor.finish()
        self.parts.append(b"".join(out))
        self.uncompressed_size += compressor.uncompressed_size

    def add_directories(self) -> None:
        root = self._task.prefix.strip("/")
        paths = _with_parents([f"{root}/x"])
        for contents in self._contents:
            paths.update(f"{root}/{directory}" for directory in contents.directories)
        self.add_bytes(tar.directory(path) for path in sorted(paths))

    def add_fragments(self) -> None:
        for fragment, contents in zip(self._task.fragments, self._contents, strict=True):
            self._add_fragment(fragment, contents)

    def _add_fragment(self, fragment: FragmentTask, contents: PackageContents) -> None:
        path = self._blobs.fragment_path(fragment.recipe.key)
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
        """Hash a fragment that is there; None, and nothing hashed, when there is none or it is not sound."""
        info = read_info(path)
        if info is None:
            return None
        compressed, uncompressed = self.compressed.copy(), self.uncompressed.copy()
        try:
            size = 0
            for packed, plain in _expanded(path):
                compressed.update(packed)
                uncompressed.update(plain)
                size += len(plain)
        except (FileNotFoundError, EOFError, igzip_lib.IsalError):  # type: ignore[misc]  # isal's stub has it as an object
            return None
        if size != info.uncompressed_size:
            return None
        self.compressed, self.uncompressed = compressed, uncompressed
        return info


def _expanded(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """A gzip member's bytes, compressed and plain, in step; raises EOFError, IsalError when it is not sound."""
    decompressor = isal_zlib.decompressobj(wbits=31)
    with open(path, "rb") as file:
        while packed := file.read(_READ):
            yield packed, decompressor.decompress(packed, _EXPAND)
            while rest := decompressor.unconsumed_tail:
                yield b"", decompressor.decompress(rest, _EXPAND)
    yield b"", decompressor.flush()
    if not decompressor.eof or decompressor.unused_data:
        raise EOFError(f"fragment {path.name} is truncated, or followed by something")
