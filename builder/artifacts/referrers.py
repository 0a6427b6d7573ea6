"""The files of an image as OCI artifacts that refer to one of its manifests (`oras discover`, `oras pull`).

They are made when somebody first asks what refers to the manifest: a build does not wait for them. To an index files
of one platform are attached for each of its platforms, to a platform's manifest those of that platform. The archive is
attached if somebody has had it made.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import structlog
from cachetools import TTLCache

from builder.artifacts.artifact import (
    ARCHIVE,
    ARTIFACT_FORMAT,
    CYCLONEDX,
    IMAGE_FILES,
    PROVENANCE,
    REPORT,
    SPDX,
    TEXT_FILES,
    Artifact,
    choose_platform,
    make_artifact_key,
    make_text_file,
)
from builder.artifacts.image_file import make_image_file
from builder.artifacts.made_image import ImageManifest, MadeImage, find_made_image
from builder.artifacts.provenance import PREDICATE_TYPE
from builder.errors import FormatUnsuitable
from builder.locks.description import find_newest, format_time
from builder.locks.formats import CONDA_LOCK, ENVIRONMENT_FILE, EXPLICIT, PIXI, PYLOCK
from builder.work.single_flight import SingleFlight
from storage.blobs.store import BlobStore
from storage.catalog.attachments import ImageSubject
from storage.catalog.parts import Catalog
from storage.digest import Descriptor, Digest
from storage.errors import ConderyError, ManifestBlobUnknown
from storage.oci import OCI_EMPTY, OCI_MANIFEST
from storage.repositories.rows import Push, StoredManifest

log = structlog.get_logger(__name__)

TYPES: Mapping[str, str] = {
    CONDA_LOCK.file_name: "application/vnd.conda.lock.v1+yaml",
    PIXI.file_name: "application/vnd.pixi.lock.v1+yaml",
    EXPLICIT.file_name: "application/vnd.conda.explicit.v1",
    ENVIRONMENT_FILE.file_name: "application/vnd.conda.environment.v1+yaml",
    PYLOCK.file_name: "application/vnd.pypi.pylock.v1+toml",
    SPDX.name: SPDX.media_type,
    CYCLONEDX.name: CYCLONEDX.media_type,
    ARCHIVE: "application/vnd.conda.pack.v1.tar+gzip",
    PROVENANCE: "application/vnd.in-toto+json",
    REPORT: "application/vnd.condery.report.v1+json",
}
"""By name of the file: the type of the artifact, which is also the media type of its one layer."""

FILE = "io.condery.file"
"""The annotation that says which file of which format an artifact holds."""

_TITLE = "org.opencontainers.image.title"
_EMPTY = b"{}"
_AT_ONCE = 2
_ATTEMPTS = 3
_MOST_REMEMBERED = 1 << 12
_RETRY_SECONDS = 60.0
"""After which what failed is tried again."""
_UNSUITABLE_SECONDS = 3600.0
"""After which a file is tried again that could not be written in its format."""


@dataclass(frozen=True)
class _File:
    """A file to attach; `platform` is empty for one of all platforms."""

    name: str
    artifact: Artifact
    platform: str = ""


class Referrers:
    """Attaches files to the manifests of images, in any repository that has these.

    One task makes what any number of requests ask for. Processes that do so at once make the same.
    """

    def __init__(self, catalog: Catalog, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._flights: SingleFlight[tuple[str, Digest], None] = SingleFlight()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._failed: TTLCache[tuple[str, Digest], None] = TTLCache(_MOST_REMEMBERED, _RETRY_SECONDS)
        self._unsuitable: TTLCache[tuple[Digest, str], None] = TTLCache(_MOST_REMEMBERED, _UNSUITABLE_SECONDS)
        """Files that there are not, by the subject's digest and name."""

    async def close(self) -> None:
        await self._flights.close()

    async def attach(self, repository: str, subject: Digest, seconds: float) -> None:
        """Attach what is missing to the manifest `subject` of `repository`, if that is an image's.

        Returns after `seconds` at the latest; what is not ready then goes on. What cannot be made is logged: a list of
        the rest is better than none. Raises StorageUnavailable.
        """
        if (repository, subject) in self._failed:
            return
        found = await self._catalog.attachments.find_subject(repository, subject, FILE)
        if found is None or not await self._find_missing(subject, found):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._flights.do((repository, subject), lambda: self._try_attach(repository, subject))

    async def _find_missing(self, subject: Digest, found: ImageSubject) -> list[str]:
        """The names of files that are not attached yet."""
        names = [*TEXT_FILES, *IMAGE_FILES]
        if await self._catalog.artifacts.find(make_artifact_key(found.lock_key, ARCHIVE)):
            names.append(ARCHIVE)
        return [name for name in names if _mark(name) not in found.attached and (subject, name) not in self._unsuitable]

    async def _try_attach(self, repository: str, subject: Digest) -> None:
        try:
            async with self._turns:
                for _ in range(_ATTEMPTS):
                    with contextlib.suppress(ManifestBlobUnknown):
                        # else it was collected between the two
                        return await self._attach(repository, subject)
        except ConderyError as error:
            self._failed[repository, subject] = None
            log.warning("files are not attached to an image", repository=repository, subject=subject, reason=str(error))

    async def _attach(self, repository: str, subject: Digest) -> None:
        found = await self._catalog.attachments.find_subject(repository, subject, FILE)
        names = await self._find_missing(subject, found) if found else []
        image = await find_made_image(self._catalog, found.image_key) if found and names else None
        manifest = image.find_manifest(subject) if image else None
        if image is None or manifest is None:
            return
        files = [file for name in names for file in await self._make_files(image, manifest, name)]
        for name in set(names) - {file.name for file in files}:
            self._unsuitable[subject, name] = None
        await self._blobs.put(Digest.of(_EMPTY), [_EMPTY])
        pushes = [write_referrer(image, manifest, file.name, file.artifact, file.platform) for file in files]
        await self._catalog.attachments.put(repository, subject, pushes)

    async def _make_files(self, image: MadeImage, manifest: ImageManifest, name: str) -> list[_File]:
        """Make the file `name`, once or for each platform; none if there is none for the manifest."""
        platforms = [manifest.platform] if manifest.platform else list(image.lock.packages)
        first = choose_platform(image.lock)
        if name in IMAGE_FILES:
            return [_File(name, await make_image_file(name, image, self._blobs))]
        if name == ARCHIVE:
            found = await self._catalog.artifacts.find(make_artifact_key(image.lock.key, ARCHIVE))
            return [_File(name, Artifact.from_json(found), first)] if found and first in platforms else []
        try:
            if TEXT_FILES[name].all_platforms:
                return [_File(name, await make_text_file(name, image.lock, first, self._blobs))]
            return [
                _File(name, await make_text_file(name, image.lock, platform, self._blobs), platform)
                for platform in platforms
            ]
        except FormatUnsuitable:
            return []


def write_referrer(image: MadeImage, subject: ImageManifest, name: str, artifact: Artifact, platform: str = "") -> Push:
    """Write the manifest of an artifact with one file (image-spec, manifest.md, "Guidelines for Artifact Usage")."""
    annotations = {
        FILE: _mark(name),
        _TITLE: name,
        "org.opencontainers.image.created": format_time(find_newest(chain.from_iterable(image.lock.packages.values()))),
        "io.condery.lock": image.lock.key,
        **({"io.condery.platform": platform} if platform else {}),
        **({"in-toto.io/predicate-type": PREDICATE_TYPE} if name == PROVENANCE else {}),
    }
    config = Descriptor(OCI_EMPTY, Digest.of(_EMPTY), len(_EMPTY))
    layer = Descriptor(TYPES[name], artifact.digest, artifact.size, annotations={_TITLE: name})
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": TYPES[name],
        "config": config.to_json(),
        "layers": [layer.to_json()],
        "subject": Descriptor(subject.media_type, subject.digest, subject.size).to_json(),
        "annotations": annotations,
    }
    return Push(
        StoredManifest.of(OCI_MANIFEST, json.dumps(document, separators=(",", ":")).encode()),
        blobs=(config, layer),
        subject=subject.digest,
        artifact_type=TYPES[name],
        annotations=annotations,
    )


def _mark(name: str) -> str:
    return f"{name} {ARTIFACT_FORMAT}"
