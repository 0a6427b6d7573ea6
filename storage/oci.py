"""The texts that OCI and docker's registry prescribe: media types, and the grammar of names, tags and digests.

Sources: image-spec, media-types.md and descriptor.md; distribution-spec, "Pulling manifests"; docker's "Image Manifest
Version 2, Schema 2". This module holds only constants; `storage.digest` has the classes for digests and descriptors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = f"{OCI_LAYER_TAR}+gzip"
OCI_LAYER_ZSTD = f"{OCI_LAYER_TAR}+zstd"

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_TAR = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = f"{DOCKER_LAYER_TAR}.gzip"
DOCKER_LAYER_ZSTD = f"{DOCKER_LAYER_TAR}.zstd"

DOCKER_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
"""The beginning of the media types of docker's first manifest format."""

NOT_DISTRIBUTED = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
"""Beginnings of the media types of layers that need not be in their manifest's repository."""

INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
IMAGE_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
MANIFEST_TYPES = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
"""In order of preference."""

DOCKER_LAYER_OF: Mapping[str, str] = {
    OCI_LAYER_TAR: DOCKER_LAYER_TAR,
    OCI_LAYER_GZIP: DOCKER_LAYER_GZIP,
    OCI_LAYER_ZSTD: DOCKER_LAYER_ZSTD,
}
OCI_LAYER_OF: Mapping[str, str] = {docker: oci for oci, docker in DOCKER_LAYER_OF.items()}

DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
"""A digest of one of the two registered algorithms."""

LONGEST_REPOSITORY = 255
"""Characters of a repository's name."""

REPOSITORY_PART = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
"""A part of a repository's name, between slashes."""

MIRROR_ROOT = "mirror"
"""The first part of the names of copies of other registries' repositories; no others begin with it."""

TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

HOST = re.compile(
    r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:)|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
"""The beginning that makes a reference name a registry, rather than a repository on Docker Hub."""

DOCKER_HUB = "docker.io"
DOCKER_HUB_API = "registry-1.docker.io"
"""The host that serves Docker Hub's API."""
DOCKER_HUB_NAMES = frozenset({DOCKER_HUB, DOCKER_HUB_API, "index.docker.io"})


def is_repository(name: str) -> bool:
    """Whether `name` follows the grammar, however long it is.

    Its parts are matched one by one: with `-+` inside a repeated group, one expression over the whole name would
    backtrack over what a client chose to send.
    """
    return all(REPOSITORY_PART.fullmatch(part) for part in name.split("/"))
