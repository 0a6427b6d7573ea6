"""Images of builds as they are exported: their manifests, the bases below them, and what decides on their bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from builder.build import IMAGE_FORMAT, Builder
from builder.environments.transfer.vocabulary import ExportedBase, ExportedImage
from builder.layers.plan import PLAN_FORMAT
from builder.platforms import conda_platform
from storage.digest import Descriptor
from storage.environments.builds import EnvironmentBuilds
from storage.oci import INDEX_TYPES
from storage.repositories.rows import StoredManifest

_BASE_NAME = "org.opencontainers.image.base.name"
_BASE_DIGEST = "org.opencontainers.image.base.digest"
LOCK_LABEL = "io.condery.lock"


def describe(stored: StoredManifest) -> Descriptor:
    return Descriptor(stored.media_type, stored.digest, len(stored.body))


async def describe_image(
    builder: Builder, builds: EnvironmentBuilds, key: str, *, with_bytes: bool
) -> ExportedImage | None:
    """The image of a build; None if it is not stored any more."""
    document, stored = await builds.find_image(key), await builds.list_manifests(key)
    if document is None or not stored:
        return None
    lock = await builder.catalog.locks.find(document["image"]["lock_key"])
    base = lock["spec"].get("base", "") if lock else ""
    top = Descriptor.from_json(document["image"]["variants"][0])
    return ExportedImage(
        top=Descriptor(top.media_type, top.digest, top.size),
        manifests=tuple(map(describe, stored)),
        warnings=tuple(document["image"]["warnings"]),
        bases=list_bases(stored),
        made_with=_describe_making(builder) if _is_made_here(builder, key, document, stored, base) else None,
        has_bytes=with_bytes,
    )


def list_bases(stored: Iterable[StoredManifest]) -> tuple[ExportedBase, ...]:
    """The base of each platform, as the manifests name them; the platform is empty in an image without an index."""
    bodies: Mapping[str, Mapping[str, Any]] = {each.digest: json.loads(each.body) for each in stored}
    platforms = {
        entry["digest"]: conda_platform(entry.get("platform") or {}) or ""
        for body in bodies.values()
        for entry in body.get("manifests", ())
    }
    found = [
        ExportedBase(platforms.get(digest, ""), body["annotations"][_BASE_NAME], body["annotations"].get(_BASE_DIGEST))
        for digest, body in bodies.items()
        if _BASE_NAME in (body.get("annotations") or {})
    ]
    return tuple(sorted(found, key=lambda each: each.platform))


def _describe_making(builder: Builder) -> dict[str, Any]:
    """What decides on an image's bytes besides lock and bases."""
    return {
        "image_format": IMAGE_FORMAT,
        "plan_format": PLAN_FORMAT,
        "popularity": builder.popularity.version,
        "user": builder.settings.user,
    }


def _is_made_here(
    builder: Builder, key: str, document: Mapping[str, Any], stored: Sequence[StoredManifest], base: str
) -> bool:
    """Whether the builder of now makes this image of its lock, so that it is known with what it was made."""
    platforms = [each.platform for each in list_bases(stored) if each.platform]
    if not any(each.media_type in INDEX_TYPES for each in stored):
        platforms = list(builder.settings.platforms[:1])
    return builder.image_key(document["image"]["lock_key"], platforms, base) == key


def explain_difference(builder: Builder, exported: ExportedImage, stored: Sequence[StoredManifest]) -> str:
    """Why an image that was made again has another digest than the exported one, as a part of a sentence."""
    there, here = ({each.platform: each for each in bases} for bases in (exported.bases, list_bases(stored)))
    for platform in sorted(there.keys() | here.keys()):
        if there.get(platform) != here.get(platform):
            return f"its base is {here.get(platform, 'none')}, and was {there.get(platform, 'none')}"
    if exported.made_with is None:
        return "another version of condery, or one with other settings, had made it"
    for name, value in _describe_making(builder).items():
        if exported.made_with.get(name) != value:
            return f"another version of condery, or one with other settings, had made it ({name})"
    return "its packages' archives or the base's facts are not what they were"
