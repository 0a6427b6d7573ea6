"""Opens the base that a setting names.

host                          the C library, a shell and everyday tools of the machine that condery runs on
scratch                       nothing
docker.io/library/debian:12   an image in a registry, pinned by digest when it is first pulled
oci-layout:PATH[:TAG]         an image in an OCI layout directory
docker-archive:PATH[:TAG]     an image in a `docker save` file
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from builder.base.docker_archive import DockerArchiveBase
from builder.base.host import HostBase
from builder.base.oci_layout import OciLayoutBase
from builder.base.registry import BasePins, RegistryBase
from builder.base.scratch import ScratchBase
from builder.base.vocabulary import Base
from builder.errors import BaseUnavailable
from builder.remote.logins import Login
from builder.remote.reference import ImageReference
from storage.blobs.blocking import BlockingBlobs

_NO_LOGINS: Mapping[str, Login] = MappingProxyType({})


def open_base(
    reference: str,
    *,
    blobs: BlockingBlobs,
    pins: BasePins,
    directory: Path,
    logins: Mapping[str, Login] = _NO_LOGINS,
    insecure: Collection[str] = (),
) -> Base:
    """Open the base that the setting `reference` names. Raises BaseUnavailable if it names none.

    `pins` keeps the digests to which tags are pinned, `directory` temporary files. `logins` are by registry host. The
    registries `insecure` (`host` or `host:port`) are contacted over HTTP, and so are registries on this machine.
    """
    if reference == HostBase.reference:
        return HostBase(blobs)
    if reference == ScratchBase.reference:
        return ScratchBase()
    kind, colon, rest = reference.partition(":")
    if colon and kind in ("oci-layout", "docker-archive"):
        path, tag = _split_tag(rest)
        if kind == "oci-layout":
            return OciLayoutBase(path, tag, blobs=blobs)
        return DockerArchiveBase(path, tag, blobs=blobs, directory=directory)
    try:
        image = check_reference(reference)
    except ValueError as error:
        raise BaseUnavailable(reference, str(error)) from None
    return RegistryBase(image, blobs=blobs, pins=pins, directory=directory, logins=logins, insecure=insecure)


def check_reference(reference: str) -> ImageReference:
    """Read the reference of a base in a registry. Raises ValueError, which says what a base may be."""
    try:
        return ImageReference.parse(reference)
    except ValueError as error:
        raise ValueError(
            f"{error}; a base is host, scratch, oci-layout:PATH[:TAG], docker-archive:PATH[:TAG] or "
            "REGISTRY/REPOSITORY[:TAG][@DIGEST] such as docker.io/library/debian:stable-slim"
        ) from None


def _split_tag(text: str) -> tuple[Path, str | None]:
    """Split a path from a tag. Both may hold colons: the longest beginning that exists is the path."""
    parts = text.split(":")
    for length in range(len(parts), 0, -1):
        path = Path(":".join(parts[:length]))
        if path.exists():
            return path, ":".join(parts[length:]) or None
    return Path(parts[0]), ":".join(parts[1:]) or None
