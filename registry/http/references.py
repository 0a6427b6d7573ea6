"""Parses paths below /v2/ and /files/.

Repository names contain slashes and may contain words of the API itself (`a/blobs/uploads`, `x/tags/list`). So a path
is read from its end: the last parts say what is meant, and the rest is the name. The path is read as it was sent. Only
its last part, which belongs to no name, may be percent-encoded, since clients treat a digest's colon differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

from registry.errors import DigestMalformed, NameInvalid, RouteUnknown, TagInvalid, TagMalformed
from storage.digest import Digest
from storage.errors import DigestInvalid
from storage.oci import LONGEST_REPOSITORY, TAG, is_repository

Endpoint = Literal["base", "catalog", "manifests", "blobs", "uploads", "upload", "tags", "referrers", "file"]
"""What a path is for: an endpoint of the distribution specification's API, or a file beside an image."""


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint, its repository, and the reference into it.

    The reference is a tag or digest as text for manifests, a digest for blobs and referrers, and TAG/NAME for a file.
    """

    endpoint: Endpoint
    repository: str = ""
    reference: str = ""


@lru_cache(maxsize=4096)
def parse_path(path: str) -> Target:
    """The target of the raw path `path`, which begins with /v2; raises NameInvalid or RouteUnknown.

    The reference is checked later, since the error for it depends on the method.
    """
    if path in ("/v2", "/v2/"):
        return Target("base")
    if path == "/v2/_catalog":
        return Target("catalog")
    parts = path.removeprefix("/v2/").split("/")
    if path.startswith("/v2/") and len(parts) >= 3:
        word, last = parts[-2], parts[-1]
        if word == "manifests":
            return Target("manifests", repository_name(parts[:-2]), unquote(last))
        if word == "blobs" and last == "uploads":
            # some clients leave out the slash; no digest has this form
            return Target("uploads", repository_name(parts[:-2]))
        if word == "tags" and last == "list":
            return Target("tags", repository_name(parts[:-2]))
        if len(parts) >= 4 and parts[-3] == "blobs" and word == "uploads":
            return Target("upload" if last else "uploads", repository_name(parts[:-3]), unquote(last))
        if word == "blobs":
            return Target("blobs", repository_name(parts[:-2]), unquote(last))
        if word == "referrers":
            return Target("referrers", repository_name(parts[:-2]), unquote(last))
    raise RouteUnknown(path)


@lru_cache(maxsize=512)
def parse_file_path(path: str) -> Target:
    """The target of the raw path `path`, which begins with /files/; raises NameInvalid or RouteUnknown."""
    parts = path.removeprefix("/files/").split("/")
    if len(parts) < 3:
        raise RouteUnknown(path)
    return Target("file", repository_name(parts[:-2]), "/".join(parts[-2:]))


def repository_name(parts: list[str]) -> str:
    """The repository in these parts of a path; raises NameInvalid."""
    name = "/".join(parts)
    if len(name) > LONGEST_REPOSITORY or not is_repository(name):
        raise NameInvalid(name)
    return name


def is_digest(reference: str) -> bool:
    """Whether a manifest's reference can only be a digest: tags have no colon."""
    return ":" in reference


@lru_cache(maxsize=4096)
def path_digest(text: str) -> Digest:
    """The digest in a path; raises DigestMalformed."""
    try:
        return Digest.parse(text)
    except DigestInvalid:
        raise DigestMalformed(text) from None


def check_tag(text: str) -> str:
    """Check a tag in a path of an existing manifest; raises TagInvalid."""
    if not TAG.fullmatch(text):
        raise TagInvalid(text)
    return text


def check_new_tag(text: str) -> str:
    """Check a tag to push to; raises TagMalformed."""
    if not TAG.fullmatch(text):
        raise TagMalformed(text)
    return text


def check_repository(text: str) -> str:
    """Check a repository's name in a query; raises NameInvalid."""
    return repository_name(text.split("/"))
