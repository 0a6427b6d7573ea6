"""The image of one platform, and the join of all platforms into one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from builder.image import documents
from builder.image.documents import ImageDocuments, ImageLayer
from builder.image.finished import FinishedImage
from builder.image.report import PlatformReport
from builder.layers.codec import CODEC
from builder.layers.layer import AssembledLayer, LayerTask
from builder.locks.lock import Lock
from storage.digest import Descriptor
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from storage.repositories.rows import Push, StoredManifest


@dataclass(frozen=True)
class PlatformImage:
    """One platform's documents, and the report on how they were made."""

    platform: str
    documents: ImageDocuments
    blobs: tuple[Descriptor, ...]
    """The blobs of its manifests: config and layers, including the base's."""
    report: PlatformReport
    scripts: tuple[str, ...]
    """Packages whose link scripts were not run."""
    warnings: tuple[str, ...] = ()
    """What else whoever pulls the image should know."""


def join_platforms(lock: Lock, platforms: Sequence[PlatformImage]) -> tuple[FinishedImage, list[Push]]:
    """Return the image, and all its manifests with everything they need, for the catalog to store at once."""
    oci = [Push(StoredManifest.of(OCI_MANIFEST, each.documents.manifest), each.blobs) for each in platforms]
    docker = [
        Push(StoredManifest.of(DOCKER_MANIFEST, each.documents.docker_manifest), each.blobs) for each in platforms
    ]
    index = []
    if not lock.spec.single:
        body = documents.write_index(lock.spec, [(each.platform, each.documents.manifest) for each in platforms])
        children = [push.manifest.digest for push in oci]
        index = [Push(StoredManifest.of(OCI_INDEX, body), children=children)]
    variants = tuple(
        Descriptor(push.manifest.media_type, push.manifest.digest, len(push.manifest.body))
        for push in (*index, oci[0], docker[0])
    )
    packages = sorted({package for each in platforms for package in each.scripts})
    warnings = [f"link scripts were not run: {', '.join(packages)}"] if packages else []
    warnings += dict.fromkeys(warning for each in platforms for warning in each.warnings)
    return FinishedImage(lock.key, variants, tuple(warnings)), [*index, *oci, *docker]


def describe_layer(layer: AssembledLayer, task: LayerTask) -> ImageLayer:
    descriptor = Descriptor(CODEC.media_type, layer.digest, layer.size)
    return ImageLayer(descriptor, layer.diff_id, tuple(str(fragment.package) for fragment in task.fragments))
