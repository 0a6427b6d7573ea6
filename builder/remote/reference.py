"""Names of images in other registries."""

from __future__ import annotations

from dataclasses import dataclass

from storage.digest import Digest
from storage.errors import DigestInvalid
from storage.oci import DOCKER_HUB, DOCKER_HUB_NAMES, HOST, TAG, is_repository

MAX_DOCUMENT = 4 << 20
"""Bytes of the largest manifest and config that is read. podman and containerd refuse larger manifests too."""


@dataclass(frozen=True)
class ImageReference:
    """`HOST/REPOSITORY[:TAG][@DIGEST]` (distribution-spec, pulling manifests).

    Without tag and digest, the tag is `latest`.
    """

    host: str
    repository: str
    tag: str | None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Parse a reference. Raises ValueError, which says what is wrong."""
        host, slash, rest = text.partition("/")
        if not slash or not HOST.fullmatch(host):
            raise ValueError(f"{text!r} does not start with a registry's host, such as docker.io/ or localhost:5000/")
        rest, at, digest = rest.partition("@")
        repository, colon, tag = rest.partition(":")
        if host in DOCKER_HUB_NAMES:
            host = DOCKER_HUB
            if "/" not in repository:
                repository = f"library/{repository}"
        if not is_repository(repository):
            raise ValueError(f"{repository!r} is not a repository name")
        if colon and not TAG.fullmatch(tag):
            raise ValueError(f"{tag!r} is not a tag")
        if not at:
            return cls(host, repository, tag or "latest")
        try:
            return cls(host, repository, tag or None, Digest.parse(digest))
        except DigestInvalid as error:
            raise ValueError(str(error)) from None

    @property
    def target(self) -> str:
        """What follows `manifests/` in its address: the digest if there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"
