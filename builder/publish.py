"""Takes a finished image out of the stores: to an OCI layout, a docker archive, or another registry.

Functions block. Blobs pass in chunks, so memory does not grow with their size. An output appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import tarfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from builder.base.layers import ChunkReader
from builder.errors import PublishFailed, RemoteUnavailable
from builder.platforms import conda_platform
from builder.remote.logins import Login
from builder.remote.reference import ImageReference
from builder.remote.repository import RemoteRepository, RepeatableBody
from storage.blobs.blocking import BlobReader
from storage.digest import Descriptor, Digest
from storage.disk.files import TEMPORARY, atomic_write, sync_directory
from storage.errors import StorageFull
from storage.oci import OCI_INDEX

Manifests = Callable[[Digest], bytes]
"""Returns the manifest or index of a digest. Raises a ConderyError if there is none."""

OnCopied = Callable[[int, int, str], None]
"""Called with the bytes done, the bytes in all, and the blob's digest; from threads, one call at a time."""

_LAYOUT_MARKER = b'{"imageLayoutVersion":"1.0.0"}'
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
    target = str(directory)
    if os.path.lexists(directory) and (not directory.is_dir() or any(directory.iterdir())):
        raise PublishFailed(target, "it already exists; name a new directory")
    temporary = directory.with_name(f"{TEMPORARY}{secrets.token_hex(8)}-{directory.name}")
    try:
        with _as_publish_error(target):
            _make_folder(temporary, umask)
            annotations = {_REF_NAME: tag} if tag else {}
            for name, _, content in _write_layout_files(target, image, annotations, report):
                _write_file(temporary / name, content, umask)
            os.replace(temporary, directory)
            sync_directory(directory.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    with _as_publish_error(target):
        _make_folder(path.parent, umask)
        with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w|") as tar:
            _set_mode(file.fileno(), 0o666, umask)
            for entry, size, content in _write_layout_files(target, single, annotations, report):
                _add_member(tar, entry, size, content)
            manifest = _write_docker_manifest(single, name)
            _add_member(tar, "manifest.json", len(manifest), [manifest])


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
            body = RepeatableBody(blob.size, lambda: _verify(reference, blob, meter.watch(blob, image.blobs)))
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
    yield "oci-layout", len(_LAYOUT_MARKER), [_LAYOUT_MARKER]
    for blob in parts.blobs:
        yield _locate_blob(blob.digest), blob.size, _verify(target, blob, meter.watch(blob, image.blobs))
    for descriptor, body in parts.manifests:
        yield _locate_blob(descriptor.digest), len(body), [body]
    top = image.descriptor
    entry = Descriptor(top.media_type, top.digest, top.size, top.platform, {**top.annotations, **annotations})
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [entry.to_json()],
    }
    content = json.dumps(index).encode()
    yield "index.json", len(content), [content]


def _verify(target: str, blob: Descriptor, chunks: Iterable[bytes]) -> Iterator[bytes]:
    damaged = PublishFailed(target, f"the stored blob {blob.digest} is damaged")
    hasher = blob.digest.hasher()
    size = 0
    try:
        for chunk in chunks:
            hasher.update(chunk)
            size += len(chunk)
            yield chunk
    except EOFError:
        raise damaged from None
    if hasher.hexdigest() != blob.digest.hex or size != blob.size:
        raise damaged


def _locate_blob(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _write_docker_manifest(image: StoredImage, name: str | None) -> bytes:
    """Write manifest.json of docker's image archive (moby, image/spec/v1.2)."""
    document: dict[str, Any] = json.loads(image.manifest(image.descriptor.digest))
    entry = {
        "Config": _locate_blob(Digest.parse(document["config"]["digest"])),
        "RepoTags": [name] if name else None,
        "Layers": [_locate_blob(Digest.parse(layer["digest"])) for layer in document["layers"]],
    }
    return json.dumps([entry]).encode()


def _complete_name(name: str) -> str:
    """Complete a name: containerd knows images only by whole references."""
    first, slash, _ = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def _make_folder(path: Path, umask: int | None) -> None:
    """Make a directory and its missing parents."""
    if not path.is_dir():
        _make_folder(path.parent, umask)
        path.mkdir(exist_ok=True)
        _set_mode(path, 0o777, umask)


def _set_mode(file: Path | int, most: int, umask: int | None) -> None:
    """Set the mode that a file made with `most` has under `umask`; None means the process's, which already applied.

    A process has one umask: changing it for one output would change it for whatever other threads write meanwhile.
    """
    if umask is not None:
        inherited = os.stat(file).st_mode & 0o7000
        os.chmod(file, inherited | most & ~umask)


def _write_file(path: Path, content: Iterable[bytes], umask: int | None) -> None:
    _make_folder(path.parent, umask)
    with open(path, "wb") as file:
        _set_mode(file.fileno(), 0o666, umask)
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())


def _add_member(tar: tarfile.TarFile, name: str, size: int, content: Iterable[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    with io.BufferedReader(ChunkReader(content)) as file:
        tar.addfile(member, file)
        # addfile stops at the announced size; the end of the content checks its digest
        while file.read(1 << 16):
            pass


@contextlib.contextmanager
def _as_publish_error(target: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(target) from error
        raise PublishFailed(target, error.strerror or str(error)) from None
