"""The files beside an image: lock files, and the environment as an archive that needs no container."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from builder.canonical import make_key
from builder.errors import ArchiveFailed, UnknownArtifact
from builder.locks.description import suggest_name
from builder.locks.formats import CONDA_LOCK, FORMATS
from builder.locks.lock import Lock
from storage.blobs.joins import Join
from storage.blobs.layers import LayerStore
from storage.blobs.store import BlobStore
from storage.digest import Digest

ARCHIVE = "archive.tar.gz"

ARCHIVE_MEDIA_TYPE = "application/gzip"

_FORMATS = {each.file_name: each for each in FORMATS}

ARTIFACTS = (*_FORMATS, ARCHIVE)
"""Names that can be requested."""

ARTIFACT_FORMAT = 3
"""Part of every file's key: raise it when the same lock must give other bytes."""

Pack = Callable[[Lock, str], Awaitable[Join]]
"""Makes the parts of a lock's archive for a platform."""


@dataclass(frozen=True)
class Artifact:
    """A finished file, whose bytes are in the blob store."""

    digest: Digest
    size: int
    media_type: str
    file_name: str

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "size": self.size,
            "media_type": self.media_type,
            "file_name": self.file_name,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(Digest.parse(document["digest"]), document["size"], document["media_type"], document["file_name"])


def make_artifact_key(lock_key: str, name: str) -> str:
    return make_key("artifact", [ARTIFACT_FORMAT, lock_key, name])


async def make_artifact(name: str, lock: Lock, *, blobs: BlobStore, layers: LayerStore, pack: Pack) -> Artifact:
    """Make the file `name` of `lock` and store it. The same lock gives the same bytes.

    Raises UnknownArtifact, FormatUnsuitable, ArchiveFailed, FragmentsGone, StorageFull and what `pack` raises.
    """
    if name not in ARTIFACTS:
        raise UnknownArtifact(name, ARTIFACTS)
    platform = choose_platform(lock)
    if name == ARCHIVE:
        digest, size = await _store_archive(lock, platform, layers, pack)
        return Artifact(digest, size, ARCHIVE_MEDIA_TYPE, suggest_file_name(name, lock, platform))
    lock_format = _FORMATS[name]
    content = lock_format.write(lock, platform)
    digest = Digest.of(content)
    size = (await blobs.put(digest, [content])).size
    return Artifact(digest, size, lock_format.media_type, suggest_file_name(name, lock, platform))


def suggest_file_name(name: str, lock: Lock, platform: str) -> str:
    """Suggest a name for a browser to save it as, e.g. `numpy-scipy-0123456789ab-linux-64.tar.gz`.

    Tools recognise a text file by its name, so its own name comes last.
    """
    stem = f"{suggest_name(lock.spec)}-{lock.key[:12]}"
    if name == ARCHIVE:
        return f"{stem}-{platform}.tar.gz"
    return f"{stem}.{name}" if _FORMATS[name].all_platforms else f"{stem}-{platform}.{name}"


def choose_platform(lock: Lock) -> str:
    """Choose the platform for a file that holds only one: the lock's first, as for a client that accepts no index."""
    return next(iter(lock.packages))


async def _store_archive(lock: Lock, platform: str, layers: LayerStore, pack: Pack) -> tuple[Digest, int]:
    if platform.startswith("win-"):
        raise ArchiveFailed(
            platform, f"conda-unpack's launcher for Windows can be made only on Windows; use {CONDA_LOCK.file_name}"
        )
    join = await pack(lock, platform)
    await layers.put_join(join)
    return join.digest, join.size
