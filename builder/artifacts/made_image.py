"""An image that is recorded, as the files about it need it: its lock, its manifests, and the report of its build."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.locks.aside import read_lock
from builder.locks.lock import Lock
from builder.platforms import conda_platform
from storage.catalog.parts import Catalog
from storage.digest import Digest
from storage.oci import DOCKER_MANIFEST, INDEX_TYPES
from storage.repositories.rows import StoredManifest

_BASE_NAME = "org.opencontainers.image.base.name"
_BASE_DIGEST = "org.opencontainers.image.base.digest"


@dataclass(frozen=True)
class ImageManifest:
    """One of an image's manifests."""

    digest: Digest
    media_type: str
    size: int
    platform: str = ""
    """The conda platform; empty for an index."""
    base: tuple[str, str] | None = None
    """The name and the digest of the base image, if it has one; only an OCI manifest says it."""

    @property
    def name(self) -> str:
        """What tells it apart from the image's other manifests."""
        if not self.platform:
            return "index"
        return f"docker/{self.platform}" if self.media_type == DOCKER_MANIFEST else self.platform


@dataclass(frozen=True)
class MadeImage:
    """An image under its key in the catalog; `manifests` are sorted by name."""

    key: str
    lock: Lock
    manifests: tuple[ImageManifest, ...]
    document: Mapping[str, Any]
    """What the catalog has of it: `image`, a FinishedImage, and `report`, a BuildReport."""

    def find_manifest(self, digest: Digest) -> ImageManifest | None:
        return next((each for each in self.manifests if each.digest == digest), None)


async def find_made_image(catalog: Catalog, key: str) -> MadeImage | None:
    """Find the image `key`; None if it, its lock or its manifests are gone."""
    document = await catalog.images.find(key)
    found = await catalog.locks.find(document["image"]["lock_key"]) if document else None
    manifests = await catalog.images.list_manifests(key) if found else []
    if not document or not found or not manifests:
        return None
    lock = await read_lock(found)
    return MadeImage(key, lock, _read_manifests(manifests, lock), document)


def _read_manifests(stored: Sequence[StoredManifest], lock: Lock) -> tuple[ImageManifest, ...]:
    bodies = {each.digest: json.loads(each.body) for each in stored}
    # an image of one platform may have no index
    platforms: dict[str, str] = (
        {} if len(lock.packages) > 1 else dict.fromkeys(_configs(bodies), next(iter(lock.packages)))
    )
    for each in stored:
        if each.media_type in INDEX_TYPES:
            for entry in bodies[each.digest]["manifests"]:
                platforms[bodies[entry["digest"]]["config"]["digest"]] = conda_platform(entry["platform"]) or ""
    read = (_read(each, bodies[each.digest], platforms) for each in stored)
    return tuple(sorted(read, key=lambda each: each.name))


def _configs(bodies: Mapping[Digest, Mapping[str, Any]]) -> list[str]:
    return [body["config"]["digest"] for body in bodies.values() if "config" in body]


def _read(stored: StoredManifest, body: Mapping[str, Any], platforms: Mapping[str, str]) -> ImageManifest:
    annotations = body.get("annotations") or {}
    base = None
    if "config" in body and _BASE_DIGEST in annotations:
        base = (annotations[_BASE_NAME], annotations[_BASE_DIGEST])
    platform = platforms[body["config"]["digest"]] if "config" in body else ""
    return ImageManifest(stored.digest, stored.media_type, len(stored.body), platform, base)
