"""The files about an image: how it was made (`provenance.json`), and the report of its build (`report.json`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

from builder.artifacts.artifact import PROVENANCE, REPORT, Artifact, make_artifact_key, store_text, suggest_file_name
from builder.artifacts.made_image import MadeImage, find_made_image
from builder.artifacts.provenance import write_provenance
from builder.errors import UnknownArtifact
from builder.locks.description import suggest_name
from storage.blobs.store import BlobStore
from storage.catalog.parts import Catalog
from storage.errors import FragmentsGone


def write_report(image: MadeImage) -> bytes:
    """Write what `condery explain` shows: layers with their packages and bytes, overlaps, times of stages.

    Sizes are in bytes, times in seconds. Another build of the same image has other times.
    """
    report = {
        "name": suggest_name(image.lock.spec),
        "lock": f"lock-{image.lock.key}",
        "manifests": [
            {"name": each.name, "mediaType": each.media_type, "digest": each.digest, "size": each.size}
            for each in image.manifests
        ],
        "warnings": image.document["image"]["warnings"],
        **image.document["report"],
    }
    return json.dumps(report, indent=1).encode()


WRITERS: Mapping[str, tuple[str, Callable[[MadeImage], bytes]]] = {
    PROVENANCE: ("application/vnd.in-toto+json", write_provenance),
    REPORT: ("application/json", write_report),
}
"""By name: the media type, and what writes the file."""


async def record_image_file(name: str, image_key: str, catalog: Catalog, blobs: BlobStore) -> str:
    """Make and record the file `name` of a recorded image, and return its key.

    Raises UnknownArtifact, and FragmentsGone if the image is gone.
    """
    if name not in WRITERS:
        raise UnknownArtifact(name, list(WRITERS))
    key = make_artifact_key(image_key, name)
    if await catalog.artifacts.find(key):
        return key
    image = await find_made_image(catalog, image_key)
    if image is None:
        # as if its parts had been deleted while it was made: a new attempt makes it again
        raise FragmentsGone([image_key])
    artifact = await make_image_file(name, image, blobs)
    await catalog.artifacts.put(key, image.lock.key, artifact.to_json(), artifact.digest)
    return key


async def make_image_file(name: str, image: MadeImage, blobs: BlobStore) -> Artifact:
    media_type, write = WRITERS[name]
    content = await asyncio.to_thread(write, image)
    return await store_text(content, media_type, suggest_file_name(name, image.lock, ""), blobs)
