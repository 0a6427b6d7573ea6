"""From an index or manifest, whatever its source, to a BaseImage whose blobs are stored.

This follows image-spec's image-index.md, manifest.md and config.md. docker's manifest list and schema 2 differ in media
types only.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

import zstandard

from builder.base.layers import RootFacts, look_into
from builder.base.vocabulary import BaseImage, BaseLayer
from builder.errors import BaseUnavailable
from builder.platforms import conda_platform
from builder.remote.reference import MAX_DOCUMENT
from storage.blobs.blocking import BlockingBlobs
from storage.digest import Descriptor, Digest
from storage.errors import DigestInvalid, DigestMismatch
from storage.oci import DOCKER_LAYER_OF, IMAGE_TYPES, MANIFEST_TYPES, OCI_LAYER_OF

_PASSED_ON = {**{oci: oci for oci in DOCKER_LAYER_OF}, **OCI_LAYER_OF}
"""The media type that each type of layer gets in an image of ours."""


class ImageSource(Protocol):
    """A source of documents and blobs. Its methods block and raise BaseUnavailable."""

    def document(self, descriptor: Descriptor) -> bytes:
        """Read a manifest, index or config of at most 4 MiB. Its digest is not checked here."""

    def blob(self, descriptor: Descriptor) -> Iterable[bytes]:
        """Yield a layer's chunks. Their digest is not checked here."""


class ImageReader:
    """Reads one image for one conda platform from a source. Errors name `base`."""

    def __init__(self, base: str, source: ImageSource, blobs: BlockingBlobs) -> None:
        self._base = base
        self._source = source
        self._blobs = blobs

    def read(self, top: Mapping[str, Any], platform: str, *, reference: str, digest: Digest) -> BaseImage:
        """Read the image for `platform` from `top`, an index or manifest. Raises BaseUnavailable."""
        found = dict(self._list_candidates(top))
        if platform not in found:
            raise BaseUnavailable(
                self._base, f"it has no image for {platform}, only for {', '.join(sorted(found)) or 'other systems'}"
            )
        chosen = found[platform]
        manifest = self.fetch(chosen) if isinstance(chosen, Descriptor) else chosen
        config = self._read_config(manifest)
        if conda_platform(config) != platform:
            raise BaseUnavailable(self._base, f"its index says {platform}, the config {conda_platform(config)}")
        layers = self._read_layers(manifest, config)
        for layer in layers:
            self._store(layer.descriptor)
        return make_base_image(
            self._base, self._blobs, reference=reference, digest=digest, platform=platform, layers=layers, config=config
        )

    def fetch(self, descriptor: Descriptor) -> dict[str, Any]:
        """Fetch the JSON document behind `descriptor` and check it against its digest."""
        data = self._source.document(descriptor)
        if hashlib.new(descriptor.digest.algorithm, data).hexdigest() != descriptor.digest.hex:
            raise BaseUnavailable(self._base, f"the content of {descriptor.digest} has another digest")
        return parse_document(self._base, data)

    def _list_candidates(
        self, top: Mapping[str, Any], depth: int = 0
    ) -> Iterator[tuple[str, Descriptor | Mapping[str, Any]]]:
        """Yield (conda platform, manifest or its descriptor) below `top`, last entry first, so that a dict keeps the
        first."""
        if is_manifest(top):
            if platform := conda_platform(self._read_config(top)):
                yield platform, top
            return
        if not isinstance(top.get("manifests"), list) or "layers" in top:
            raise BaseUnavailable(self._base, "it is neither an image manifest nor an image index")
        if depth > 1:
            raise BaseUnavailable(self._base, "its indexes are nested too deeply")
        for entry in reversed(read_descriptors(self._base, top["manifests"])):
            if entry.media_type in IMAGE_TYPES and entry.platform:
                # An index lists attestations under the platform unknown/unknown.
                if platform := conda_platform(entry.platform):
                    yield platform, entry
            elif entry.media_type in MANIFEST_TYPES:
                yield from self._list_candidates(self.fetch(entry), depth + 1)

    def _read_config(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        (descriptor,) = read_descriptors(self._base, [manifest.get("config")])
        return self.fetch(descriptor)

    def _read_layers(self, manifest: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[BaseLayer, ...]:
        found = read_descriptors(self._base, manifest.get("layers"))
        diff_ids = read_diff_ids(self._base, config)
        if len(found) != len(diff_ids):
            raise BaseUnavailable(self._base, f"its manifest has {len(found)} layers, its config {len(diff_ids)}")
        return tuple(BaseLayer(self._normalize(layer), diff_id) for layer, diff_id in zip(found, diff_ids, strict=True))

    def _normalize(self, layer: Descriptor) -> Descriptor:
        try:
            return Descriptor(_PASSED_ON[layer.media_type], layer.digest, layer.size)
        except KeyError:
            raise BaseUnavailable(
                self._base,
                f"its layer {layer.digest} is of type {layer.media_type}, which an image cannot hold",
            ) from None

    def _store(self, layer: Descriptor) -> None:
        size = self._blobs.sizes([layer.digest]).get(layer.digest)
        if size is None:
            try:
                size = self._blobs.put(layer.digest, self._source.blob(layer))
            except DigestMismatch as error:
                raise BaseUnavailable(self._base, str(error)) from None
        if size != layer.size:
            raise BaseUnavailable(self._base, f"{layer.digest} has {size} bytes, not {layer.size} as its manifest says")


def is_manifest(document: Mapping[str, Any]) -> bool:
    """Whether it is an image manifest. One that is also an index is neither: readers would see two images in it."""
    return "config" in document and "layers" in document and "manifests" not in document


def read_small(base: str, name: str, file: IO[bytes]) -> bytes:
    """Read all of `file`, called `name` in the image. Raises BaseUnavailable if it is too large for a document."""
    data = file.read(MAX_DOCUMENT + 1)
    if len(data) > MAX_DOCUMENT:
        raise BaseUnavailable(base, f"its {name} is larger than {MAX_DOCUMENT} bytes")
    return data


def parse_document(base: str, data: bytes) -> dict[str, Any]:
    """Parse `data` as a JSON object. Raises BaseUnavailable."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise BaseUnavailable(base, "one of its documents is not JSON") from None
    if not isinstance(document, dict):
        raise BaseUnavailable(base, "one of its documents is not a JSON object")
    if document.get("schemaVersion") == 1:
        raise BaseUnavailable(base, "it uses docker's old schema 1; push it again with a current docker")
    return document


def read_descriptors(base: str, entries: object) -> list[Descriptor]:
    """Read a document's descriptors. Raises BaseUnavailable if they are malformed."""
    try:
        if not isinstance(entries, list):
            raise TypeError
        return [Descriptor.from_json(entry) for entry in entries]
    except (KeyError, TypeError, ValueError, AttributeError, DigestInvalid):
        raise BaseUnavailable(base, "one of its manifests is malformed") from None


def read_diff_ids(base: str, config: Mapping[str, Any]) -> list[Digest]:
    """Read the config's `rootfs.diff_ids`. Raises BaseUnavailable."""
    try:
        return [Digest.parse(diff_id) for diff_id in config["rootfs"]["diff_ids"]]
    except (KeyError, TypeError, DigestInvalid):
        raise BaseUnavailable(base, "its image config is malformed") from None


def make_base_image(
    base: str,
    blobs: BlockingBlobs,
    *,
    reference: str,
    digest: Digest,
    platform: str,
    layers: tuple[BaseLayer, ...],
    config: Mapping[str, Any],
) -> BaseImage:
    """Make a base from stored `layers`, which are inspected, and from the image config that came with them.

    Raises BaseUnavailable, which names `base`, if a layer is not a tar.
    """
    facts = look_into_base(base, layers, blobs)
    return BaseImage(
        reference=reference,
        digest=digest,
        platform=platform,
        layers=layers,
        config={name: config[name] for name in ("config", "history") if config.get(name)},
        glibc=facts.glibc,
        has_shell=facts.has_shell,
        bash=facts.bash,
        links=facts.links,
    )


def look_into_base(base: str, layers: Sequence[BaseLayer], blobs: BlockingBlobs) -> RootFacts:
    """`look_into`, but raising BaseUnavailable if a layer is not a tar."""
    try:
        return look_into(layers, blobs)
    except (tarfile.TarError, OSError, EOFError, zstandard.ZstdError) as error:
        raise BaseUnavailable(base, f"one of its layers cannot be read: {error}") from None
