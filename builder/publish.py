"""Takes a finished image out of the stores: to an OCI layout, a docker archive, or another registry.

Functions block. Blobs pass in chunks, so memory does not grow with their size. An output appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from builder.base.layout_files import (
    INDEX_NAME,
    LAYOUT_MARKER,
    MARKER_NAME,
    locate_blob,
    verify,
    writing_directory,
    writing_tar,
)
from builder.errors import PublishFailed, RemoteUnavailable
from builder.platforms import conda_platform
from builder.remote.logins import Login
from builder.remote.reference import ImageReference
from builder.remote.repository import RemoteRepository, RepeatableBody
from storage.blobs.blocking import BlobReader
from storage.digest import Descriptor, Digest
from storage.oci import OCI_INDEX

Manifests = Callable[[Digest], bytes]
"""Returns the manifest or index of a digest. Raises a ConderyError if there is none."""

OnCopied = Callable[[int, int, str], None]
"""Called with the bytes done, the bytes in all, and the blob's digest; from threads, one call at a time."""

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_UPLOADS = 4
_NO_LOGINS: Mapping[str, Login] = MappingProxyType({})


@dataclass(frozen=True)
class StoredImage:
    """An image or index by its descriptor, and where its parts are."""

    descriptor: Descriptor
    blobs: BlobReader
    manifest: Manifests

    def of_platform(self, platform: str | None) -> StoredImage:
        """Return the manifest for a conda platform, which may be None if there is only one. Raises ValueError."""
        document = json.loads(self.manifest(self.descriptor.digest))
        if "manifests" not in document:
            return self
        entries = [Descriptor.from_json(entry) for entry in document["manifests"]]
        found = {conda_platform(entry.platform or {}) or "unknown": entry for entry in entries}
        if platform is None and len(found) == 1:
            (platform,) = found
        if platform not in found:
            raise ValueError(f"name one of the image's platforms: {', '.join(sorted(found))}")
        return StoredImage(found[platform], self.blobs, self.manifest)


def show_nothing(_done: int, _total: int, _detail: str) -> None:
    """An OnCopied that shows nothing."""


def write_oci_layout(
    directory: Path,
    image: StoredImage,
    *,
    tag: str | None = None,
    umask: int | None = None,
    report: OnCopied = show_nothing,
) -> None:
    """Write the image as an OCI layout (image-spec, image-layout.md) into a new or empty directory.

    `tag` becomes its `org.opencontainers.image.ref.name`. `umask` replaces the process's. Raises PublishFailed,
    StorageFull, BlobUnknown.
    """
    annotations = {_REF_NAME: tag} if tag else {}
    with writing_directory(directory, umask) as add:
        for name, size, content in _write_layout_files(str(directory), image, annotations, report):
            add(name, size, content)


def write_docker_archive(
    path: Path,
    image: StoredImage,
    *,
    name: str | None = None,
    platform: str | None = None,
    umask: int | None = None,
    report: OnCopied = show_nothing,
) -> None:
    """Write one platform's image as a file for `docker load`, which is also an OCI layout in a tar.

    `name` is its name once loaded, e.g. `team/science:latest`. An existing file is replaced. `umask` replaces the
    process's. Raises PublishFailed, StorageFull, BlobUnknown.
    """
    target = str(path)
    try:
        single = image.of_platform(platform)
    except ValueError as error:
        raise PublishFailed(target, str(error)) from None
    annotations = {_CONTAINERD_NAME: _complete_name(name), _REF_NAME: name.rpartition(":")[2]} if name else {}
    with writing_tar(path, umask) as add:
        for entry, size, content in _write_layout_files(target, single, annotations, report):
            add(entry, size, content)
        manifest = _write_docker_manifest(single, name)
        add("manifest.json", len(manifest), [manifest])


def push(
    reference: str,
    image: StoredImage,
    *,
    logins: Mapping[str, Login] = _NO_LOGINS,
    insecure: Collection[str] = (),
    report: OnCopied = show_nothing,
) -> str:
    """Push to another registry: first missing blobs, then manifests, and the tag last. Raises PublishFailed.

    `reference` is `HOST/REPOSITORY[:TAG]`; `logins` and `insecure` are by host, as for base images. Returns the whole
    reference of the pushed image, with its digest.
    """
    try:
        target = ImageReference.parse(reference)
    except ValueError as error:
        raise PublishFailed(reference, str(error)) from None
    if target.digest not in (None, image.descriptor.digest):
        raise PublishFailed(reference, f"the image's digest is {image.descriptor.digest}")
    repository = RemoteRepository(target, logins=logins, insecure=insecure)
    parts = _collect(reference, image)
    meter = _Meter(parts.blobs, report)

    def upload(blob: Descriptor) -> None:
        if not repository.has_blob(blob.digest):
            body = RepeatableBody(blob.size, lambda: verify(reference, blob, meter.watch(blob, image.blobs)))
            repository.put_blob(blob.digest, body)
        meter.finish(blob)

    try:
        with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="push") as pool:
            uploads = [pool.submit(upload, blob) for blob in parts.blobs]
            try:
                for each in uploads:
                    each.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        *children, (top, body) = parts.manifests
        for descriptor, child in children:
            repository.put_manifest(descriptor.digest, descriptor.media_type, child)
        repository.put_manifest(target.tag or target.target, top.media_type, body)
    except RemoteUnavailable as error:
        raise PublishFailed(reference, error.reason) from None
    return str(replace(target, digest=image.descriptor.digest))


@dataclass(frozen=True)
class _Parts:
    """Everything that an image consists of, each digest once. The manifest that names the others comes last."""

    manifests: tuple[tuple[Descriptor, bytes], ...]
    blobs: tuple[Descriptor, ...]


def _collect(target: str, image: StoredImage) -> _Parts:
    manifests: dict[str, tuple[Descriptor, bytes]] = {}
    blobs: dict[str, Descriptor] = {}

    def visit(descriptor: Descriptor) -> None:
        body = image.manifest(descriptor.digest)
        if hashlib.new(descriptor.digest.algorithm, body).hexdigest() != descriptor.digest.hex:
            raise PublishFailed(target, f"the stored manifest {descriptor.digest} is damaged")
        document = json.loads(body)
        for entry in document.get("manifests", ()):
            visit(Descriptor.from_json(entry))
        for entry in (*([document["config"]] if "config" in document else ()), *document.get("layers", ())):
            blob = Descriptor.from_json(entry)
            blobs.setdefault(blob.digest, blob)
        manifests[descriptor.digest] = (descriptor, body)

    visit(image.descriptor)
    return _Parts(tuple(manifests.values()), tuple(blobs.values()))


class _Meter:
    """Adds up what has passed. A body that is sent again is counted again from its start."""

    def __init__(self, blobs: Iterable[Descriptor], report: OnCopied) -> None:
        self._total = sum(blob.size for blob in blobs)
        self._report = report
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()

    def watch(self, blob: Descriptor, store: BlobReader) -> Iterator[bytes]:
        passed = 0
        for chunk in store.read(blob.digest):
            yield chunk
            passed += len(chunk)
            self._set(blob, passed)

    def finish(self, blob: Descriptor) -> None:
        self._set(blob, blob.size)

    def _set(self, blob: Descriptor, done: int) -> None:
        with self._lock:
            self._done[blob.digest] = done
            self._report(sum(self._done.values()), self._total, blob.digest)


def _write_layout_files(
    target: str, image: StoredImage, annotations: Mapping[str, str], report: OnCopied
) -> Iterator[tuple[str, int, Iterable[bytes]]]:
    """Yield (path, size, content) of every file in the layout, index.json last."""
    parts = _collect(target, image)
    meter = _Meter(parts.blobs, report)
    yield MARKER_NAME, len(LAYOUT_MARKER), [LAYOUT_MARKER]
    for blob in parts.blobs:
        yield locate_blob(blob.digest), blob.size, verify(target, blob, meter.watch(blob, image.blobs))
    for descriptor, body in parts.manifests:
        yield locate_blob(descriptor.digest), len(body), [body]
    top = image.descriptor
    entry = Descriptor(top.media_type, top.digest, top.size, top.platform, {**top.annotations, **annotations})
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [entry.to_json()],
    }
    content = json.dumps(index).encode()
    yield INDEX_NAME, len(content), [content]


def _write_docker_manifest(image: StoredImage, name: str | None) -> bytes:
    """Write manifest.json of docker's image archive (moby, image/spec/v1.2)."""
    document: dict[str, Any] = json.loads(image.manifest(image.descriptor.digest))
    entry = {
        "Config": locate_blob(Digest.parse(document["config"]["digest"])),
        "RepoTags": [name] if name else None,
        "Layers": [locate_blob(Digest.parse(layer["digest"])) for layer in document["layers"]],
    }
    return json.dumps([entry]).encode()


def _complete_name(name: str) -> str:
    """Complete a name: containerd knows images only by whole references."""
    first, slash, _ = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"
