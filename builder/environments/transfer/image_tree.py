"""The manifests of an exported image, checked as pushed ones are, and that they are one image of one lock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.environments.transfer.images import LOCK_LABEL
from builder.environments.transfer.layout import Layout
from builder.environments.transfer.vocabulary import ExportedImage
from builder.errors import InputInvalid
from builder.image.finished import FinishedImage
from storage.catalog.locks import write_lock_tag
from storage.digest import Descriptor, Digest
from storage.errors import ManifestInvalid
from storage.oci import DOCKER_MANIFEST
from storage.repositories.manifest_document import ManifestDocument, read_manifest
from storage.repositories.rows import Push, StoredManifest

_HEADER = "the archive"


def read_pushes(layout: Layout, image: ExportedImage) -> list[Push]:
    """Read all manifests of an image. Raises InputInvalid, JsonInvalid, ManifestInvalid."""
    return [push for push, _ in _read(layout, image).values()]


def list_blobs(layout: Layout, image: ExportedImage, lock: str) -> dict[Digest, Descriptor]:
    """The blobs of an image of the lock with this key. Raises as `read_pushes`, also for what is not one image."""
    read = _read(layout, image)
    _check_tree(image, {digest: document for digest, (_, document) in read.items()}, lock)
    return {blob.digest: blob for push, _ in read.values() for blob in push.blobs}


def describe_finished(layout: Layout, image: ExportedImage, lock: str) -> dict[str, Any]:
    """The document of an image, which has no report: nobody here has made it."""
    documents = {digest: document for digest, (_, document) in _read(layout, image).items()}
    top = documents[image.top.digest]
    first = next((each.digest for each in top.children), image.top.digest)
    config = documents[first].config
    described = {each.digest: each for each in image.manifests}
    docker = [
        described[digest]
        for digest, each in documents.items()
        if each.media_type == DOCKER_MANIFEST and each.config and config and each.config.digest == config.digest
    ]
    variants = dict.fromkeys([image.top.digest, first, *(each.digest for each in docker)])
    finished = FinishedImage(lock, tuple(described[digest] for digest in variants), image.warnings)
    return {"image": finished.to_json()}


def _read(layout: Layout, image: ExportedImage) -> dict[Digest, tuple[Push, ManifestDocument]]:
    found = {}
    for descriptor in image.manifests:
        body = layout.read_small(descriptor)
        document = read_manifest(descriptor.media_type, body, _HEADER)
        if document.optional_blobs or document.subject:
            raise ManifestInvalid("the document", "names what an image of an environment has not")
        manifest = StoredManifest(descriptor.digest, descriptor.media_type, body)
        children = [each.digest for each in document.children]
        found[descriptor.digest] = Push(manifest, document.blobs, children=children), document
    return found


def _check_tree(image: ExportedImage, documents: Mapping[Digest, ManifestDocument], lock: str) -> None:
    """Every manifest belongs to the image, and says of which lock it is, which a docker manifest cannot."""
    top = documents[image.top.digest]
    children = [each.digest for each in top.children] or [image.top.digest]
    if missing := [each for each in children if each not in documents]:
        raise InputInvalid("", f"the manifest {missing[0]} is not listed with its image")
    configs = set()
    for digest in children:
        child = documents[digest]
        if child.config is None:
            raise InputInvalid("", f"{digest} is an index in an index")
        if child.annotations.get(LOCK_LABEL) != lock:
            raise InputInvalid("", f"the manifest {digest} is not of {write_lock_tag(lock)}")
        configs.add(child.config.digest)
    for digest, document in documents.items():
        if digest in children or digest == image.top.digest:
            continue
        if document.config is None or document.config.digest not in configs:
            raise InputInvalid("", f"the manifest {digest} is of another image")
