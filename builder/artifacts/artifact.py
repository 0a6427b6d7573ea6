"""The files beside an image: what a lock says in many formats, and the environment as an archive.

of a lock     conda-lock.yml, pixi.lock, ..., the bills of materials, the archive
of an image   how it was made: see `builder.artifacts.image_file`
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from builder.artifacts.cyclonedx import write_cyclonedx
from builder.artifacts.spdx import write_spdx
from builder.canonical import make_key
from builder.errors import ArchiveFailed, UnknownArtifact
from builder.locks.description import suggest_name
from builder.locks.formats import CONDA_LOCK, FORMATS
from builder.locks.lock import Lock
from storage.blobs.joins import Join
from storage.blobs.layers import LayerStore
from storage.blobs.store import BlobStore
from storage.catalog.locks import TAG_DIGITS
from storage.digest import Digest

ARCHIVE = "archive.tar.gz"

ARCHIVE_MEDIA_TYPE = "application/gzip"

PROVENANCE = "provenance.json"
REPORT = "report.json"
IMAGE_FILES = (PROVENANCE, REPORT)
"""Files that belong to an image, and not only to its lock."""


@dataclass(frozen=True)
class TextFile:
    """A file that is written from a lock alone."""

    name: str
    media_type: str
    write: Callable[[Lock, str], bytes]
    """Writes the file for one of the lock's platforms. Raises FormatUnsuitable."""
    all_platforms: bool
    """Whether one file holds all platforms, so that `write` ignores the platform."""


SPDX = TextFile("sbom.spdx.json", "application/spdx+json", lambda lock, _: write_spdx(lock), all_platforms=True)
CYCLONEDX = TextFile(
    "sbom.cdx.json", "application/vnd.cyclonedx+json", lambda lock, _: write_cyclonedx(lock), all_platforms=True
)
TEXT_FILES: Mapping[str, TextFile] = {
    each.name: each
    for each in (
        *(TextFile(each.file_name, each.media_type, each.write, each.all_platforms) for each in FORMATS),
        SPDX,
        CYCLONEDX,
    )
}

ARTIFACTS = (*TEXT_FILES, ARCHIVE, *IMAGE_FILES)
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


def make_artifact_key(key: str, name: str, platform: str | None = None) -> str:
    """The key of a file of the lock or image `key`.

    A file of one platform is of the lock's first, unless `platform` is another.
    """
    return make_key("artifact", [ARTIFACT_FORMAT, key, name, *([platform] if platform else [])])


async def make_artifact(name: str, lock: Lock, *, blobs: BlobStore, layers: LayerStore, pack: Pack) -> Artifact:
    """Make the file `name` of `lock` and store it. The same lock gives the same bytes.

    Raises UnknownArtifact, FormatUnsuitable, ArchiveFailed, FragmentsGone, StorageFull and what `pack` raises.
    """
    platform = choose_platform(lock)
    if name == ARCHIVE:
        digest, size = await _store_archive(lock, platform, layers, pack)
        return Artifact(digest, size, ARCHIVE_MEDIA_TYPE, suggest_file_name(name, lock, platform))
    return await make_text_file(name, lock, platform, blobs)


async def make_text_file(name: str, lock: Lock, platform: str, blobs: BlobStore) -> Artifact:
    """Write the file `name` of one of the lock's platforms and store it. Raises UnknownArtifact, FormatUnsuitable."""
    if name not in TEXT_FILES:
        raise UnknownArtifact(name, ARTIFACTS)
    # hundreds of packages take a while, in which others are answered
    content = await asyncio.to_thread(TEXT_FILES[name].write, lock, platform)
    return await store_text(content, TEXT_FILES[name].media_type, suggest_file_name(name, lock, platform), blobs)


async def store_text(content: bytes, media_type: str, file_name: str, blobs: BlobStore) -> Artifact:
    digest = Digest.of(content)
    size = (await blobs.put(digest, [content])).size
    return Artifact(digest, size, media_type, file_name)


def suggest_file_name(name: str, lock: Lock, platform: str) -> str:
    """Suggest a name for a browser to save it as, e.g. `numpy-scipy-0123456789ab-linux-64.tar.gz`.

    Tools recognise a text file by its name, so its own name comes last.
    """
    stem = f"{suggest_name(lock.spec)}-{lock.key[:TAG_DIGITS]}"
    if name == ARCHIVE:
        return f"{stem}-{platform}.tar.gz"
    text = TEXT_FILES.get(name)
    return f"{stem}.{name}" if text is None or text.all_platforms else f"{stem}-{platform}.{name}"


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
