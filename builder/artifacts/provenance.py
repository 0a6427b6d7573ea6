"""How an image was made: an in-toto Statement v1 with SLSA's provenance v1 about all of its manifests.

Everything in it follows from the image and its lock, so that equal images have equal provenances: there is no time and
no host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from builder.artifacts.made_image import MadeImage
from builder.artifacts.materials import Material, list_materials

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILDER = "urn:condery:builder"
BUILD_TYPE = "urn:condery:image:v1"
"""What the parameters below mean: an image of `spec`'s packages, chosen as in the lock, on the bases."""


def write_provenance(image: MadeImage) -> bytes:
    spec = replace(image.lock.spec, until=None)
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": each.name, "digest": {each.digest.algorithm: each.digest.hex}, "mediaType": each.media_type}
            for each in image.manifests
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"spec": spec.to_json(), "matchSpecs": spec.match_specs()},
                "internalParameters": {"lock": f"lock-{image.lock.key}"},
                "resolvedDependencies": [
                    *_list_bases(image),
                    *(_write_package(each) for each in list_materials(image.lock)),
                ],
            },
            "runDetails": {"builder": {"id": BUILDER}, "metadata": {"invocationId": image.key}},
        },
    }
    return json.dumps(statement, indent=1).encode()


def _list_bases(image: MadeImage) -> Iterator[dict[str, Any]]:
    platforms: dict[tuple[str, str], list[str]] = {}
    for each in image.manifests:
        if base := each.base:
            known = platforms.setdefault(base, [])
            known += [each.platform] if each.platform not in known else []
    for (name, digest), held in sorted(platforms.items()):
        algorithm, _, text = digest.partition(":")
        yield {"name": name, "digest": {algorithm: text}, "annotations": {"base": True, "platforms": held}}


def _write_package(material: Material) -> dict[str, Any]:
    package = material.package
    hashes = {"sha256": package.sha256, "md5": package.md5}
    return {
        "name": package.file_name,
        "uri": material.purl,
        "downloadLocation": package.url,
        "digest": {name: value for name, value in hashes.items() if value},
        "annotations": {"platforms": list(material.platforms)},
    }
