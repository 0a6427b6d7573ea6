"""What is made for each platform, and the image that it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from builder.image import documents
from builder.image.documents import ImageDocuments, ImageLayer
from builder.image.environment import FinishedEnvironment
from builder.image.finished import Image
from builder.layers.layer import AssembledLayer, LayerTask
from builder.locks.lock import Lock
from builder.packages.overlap import Overlaps
from storage.digest import Descriptor
from storage.repositories.repositories import Push, StoredManifest

DIFFERENCES = 500
"""Most differences that the report of a platform's image tells one by one."""

LONGEST_DIFFERENCE = 400
"""Characters of one: half for the path, half for the rest, of which two hashes are the longest."""


@dataclass(frozen=True)
class PlatformImage:
    """One platform's documents, and what the report says of how they came about."""

    platform: str
    documents: ImageDocuments
    blobs: tuple[Descriptor, ...]
    """Of its manifests: config and layers, those of the base too."""
    report: Mapping[str, Any]
    scripts: tuple[str, ...]
    """Packages whose link scripts were not run."""
    warnings: tuple[str, ...] = ()
    """What else whoever pulls the image should know."""


def image_of(lock: Lock, platforms: Sequence[PlatformImage]) -> tuple[Image, list[Push]]:
    """The image, and all its manifests with what they need, for the catalog to take at once."""
    oci = [Push(StoredManifest.of(documents.OCI_MANIFEST, each.documents.manifest), each.blobs) for each in platforms]
    docker = [
        Push(StoredManifest.of(documents.DOCKER_MANIFEST, each.documents.docker_manifest), each.blobs)
        for each in platforms
    ]
    index = []
    if not lock.spec.single:
        body = documents.write_index(lock.spec, [(each.platform, each.documents.manifest) for each in platforms])
        children = [push.manifest.digest for push in oci]
        index = [Push(StoredManifest.of(documents.OCI_INDEX, body), children=children)]
    variants = tuple(
        Descriptor(push.manifest.media_type, push.manifest.digest, len(push.manifest.body))
        for push in (*index, oci[0], docker[0])
    )
    packages = sorted({package for each in platforms for package in each.scripts})
    warnings = [f"link scripts were not run: {', '.join(packages)}"] if packages else []
    warnings += dict.fromkeys(warning for each in platforms for warning in each.warnings)
    return Image(lock.key, variants, tuple(warnings)), [*index, *oci, *docker]


def image_layer(layer: AssembledLayer, task: LayerTask) -> ImageLayer:
    descriptor = Descriptor(documents.OCI_LAYER, layer.digest, layer.size)
    return ImageLayer(descriptor, layer.diff_id, tuple(str(fragment.package) for fragment in task.fragments))


def report_of(
    assembled: Sequence[AssembledLayer],
    tasks: Sequence[LayerTask],
    environment: FinishedEnvironment,
    overlaps: Overlaps,
    scripts: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """What `condery explain` shows; sizes in bytes, compressed."""
    layers = [
        {
            "digest": layer.digest,
            "size": layer.size,
            "packages": [
                {"name": str(fragment.package), "size": info.size}
                for fragment, info in zip(task.fragments, layer.fragments, strict=True)
            ],
        }
        for layer, task in zip(assembled, tasks, strict=True)
    ]
    last = environment.layer.descriptor
    return {
        "layers": [*layers, {"digest": last.digest, "size": last.size, "packages": []}],
        "overlaps": [asdict(row) for row in overlaps.rows],
        "scripts": {package: list(names) for package, names in scripts.items()},
        "warnings": list(environment.warnings),
        "variables": list(environment.skipped),
        "differences": bounded_differences(
            (str(fragment.package), info.differences)
            for layer, task in zip(assembled, tasks, strict=True)
            for fragment, info in zip(task.fragments, layer.fragments, strict=True)
        ),
    }


def bounded_differences(packages: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """By package; DIFFERENCES lines of all together, and one of each package that has more than are told."""
    told: dict[str, list[str]] = {}
    room = DIFFERENCES
    for package, lines in packages:
        if lines:
            told[package] = [shortened(line) for line in lines[:room]]
            if more := len(lines) - len(told[package]):
                told[package].append(f"and {more} more lines that are not shown")
            room -= min(room, len(lines))
    return told


def shortened(line: str) -> str:
    """`line` without its middle where it is long: it begins with a path, and ends with what is wrong with it."""
    if len(line) <= LONGEST_DIFFERENCE:
        return line
    half = LONGEST_DIFFERENCE // 2
    return f"{line[:half]} ... {line[-half:]}"
