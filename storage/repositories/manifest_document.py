"""Reads pushed manifests: images and indexes (image-spec, manifest.md and image-index.md), and docker's formats.

A registry passes a manifest on byte by byte, to clients that read it in their own ways. So it refuses what is
ambiguous: a document that is an image to one client and an index to another, or names that differ only in case. It
accepts what is merely unknown: media types of artifacts, fields, annotations.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from storage import strict_json
from storage.digest import Descriptor, Digest
from storage.errors import DigestInvalid, ManifestInvalid
from storage.oci import DOCKER_LIST, DOCKER_MANIFEST, DOCKER_SCHEMA_1, IMAGE_TYPES, INDEX_TYPES, NOT_DISTRIBUTED
from storage.strict_json import path_text, show

ManifestKind = Literal["image", "index"]

KINDS: Mapping[str, ManifestKind] = {**dict.fromkeys(IMAGE_TYPES, "image"), **dict.fromkeys(INDEX_TYPES, "index")}
"""The media types of the manifests that can be stored."""

LARGEST_SIZE = 2**63 - 1

# RFC 6838, section 4.2
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}"  # noqa: S105 - the word of RFC 9110, section 5.6.2
_PARAMETER = rf"""[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|"[ !#-\[\]-~]{{0,128}}")"""
_WITH_PARAMETERS = re.compile(rf"({_MEDIA_TYPE.pattern})(?:{_PARAMETER}){{1,8}}")


def _fold(names: str) -> Mapping[str, str]:
    return {name.casefold(): name for name in names.split()}


_MANIFEST_FIELDS = _fold("schemaVersion mediaType artifactType config layers manifests subject annotations fsLayers")
_DESCRIPTOR_FIELDS = _fold("mediaType digest size urls annotations data artifactType platform")
_PLATFORM_FIELDS = _fold("architecture os os.version os.features variant features")
_FIELDS_OF_OTHERS: Mapping[ManifestKind, tuple[str, ...]] = {
    "image": ("manifests", "fsLayers"),
    "index": ("config", "layers", "fsLayers"),
}


@dataclass(frozen=True, slots=True)
class ManifestDocument:
    """The parts of a manifest's body that matter to a registry; a digest that is named twice appears once."""

    media_type: str
    kind: ManifestKind
    config: Descriptor | None = None
    """Of an image; it is also the first of `blobs`."""
    blobs: tuple[Descriptor, ...] = ()
    """The blobs that must be in the repository before the manifest."""
    optional_blobs: tuple[Descriptor, ...] = ()
    """Blobs that may be in the repository, and are then kept as long as the manifest: layers that are not distributed,
    and an index's entries that are not manifests (BuildKit's build cache is an index of layers).
    """
    children: tuple[Descriptor, ...] = ()
    """The manifests that an index names; each may be missing."""
    subject: Descriptor | None = None
    artifact_type: str | None = None
    """As a list of referrers shows it (distribution-spec, "Listing Referrers"): by default the type of the config."""
    annotations: Mapping[str, str] = field(default_factory=dict)


def read_manifest(
    content_type: str | None, body: bytes, header: str = "the request's Content-Type"
) -> ManifestDocument:
    """Read a manifest from `body`. Raises JsonInvalid, ManifestInvalid.

    `content_type` is the header as the client sent it, None without one: a framework's default would contradict the
    body's own mediaType. `header` is its name in error messages.
    """
    document = strict_json.parse(body)
    if not isinstance(document, dict):
        raise ManifestInvalid("the document", f"is {show(document)}: expected an object")
    manifest = _Object("", document, _MANIFEST_FIELDS)
    media_type = _media_type(content_type, manifest, header)
    kind = KINDS[media_type]
    _check_kind(manifest, kind)
    subject = manifest.descriptor("subject") if document.get("subject") is not None else None
    annotations = manifest.strings("annotations")
    artifact_type = manifest.optional_media_type("artifactType")
    if kind == "index":
        entries = manifest.descriptors("manifests")
        _check_sizes([subject, *entries])
        return ManifestDocument(
            media_type,
            kind,
            optional_blobs=_once(each for each in entries if each.media_type not in KINDS),
            children=_once(each for each in entries if each.media_type in KINDS),
            subject=subject,
            artifact_type=artifact_type,
            annotations=annotations,
        )
    config, layers = manifest.descriptor("config"), manifest.descriptors("layers")
    _check_sizes([subject, config, *layers])
    blobs = _once([config, *(each for each in layers if not each.media_type.startswith(NOT_DISTRIBUTED))])
    needed = {each.digest for each in blobs}
    # the specification requires an artifactType beside an empty config, but podman pushes artifacts without one
    return ManifestDocument(
        media_type,
        kind,
        config,
        blobs=blobs,
        optional_blobs=_once(each for each in layers if each.digest not in needed),
        subject=subject,
        artifact_type=artifact_type or config.media_type,
        annotations=annotations,
    )


def _media_type(content_type: str | None, manifest: _Object, header: str) -> str:
    sent = (content_type or "").partition(";")[0].strip().lower()
    named = manifest.optional_media_type("mediaType") or ""
    version = manifest.fields.get("schemaVersion")
    if (type(version) is int and version == 1) or (named or sent).startswith(DOCKER_SCHEMA_1):
        raise ManifestInvalid(
            "the document",
            "has docker's image manifest schema 1, which is no longer accepted: push the image with a current client, "
            "or convert it (skopeo copy --format v2s2)",
        )
    expected = f"expected one of {', '.join(KINDS)}"
    if not named and not sent:
        raise ManifestInvalid("mediaType", f"is missing, and so is {header}: {expected}")
    if named and sent and named != sent:
        raise ManifestInvalid("mediaType", f"is {show(named)}, but {header} is {show(sent)}: expected the same")
    if named and named not in KINDS:
        raise ManifestInvalid("mediaType", f"is {show(named)}: {expected}")
    if sent and sent not in KINDS:
        raise ManifestInvalid("mediaType", f"is missing, and {header} is {show(sent)}: {expected}")
    if not named and sent in (DOCKER_MANIFEST, DOCKER_LIST):
        raise ManifestInvalid("mediaType", f"is missing: docker's manifests have to say it, here {show(sent)}")
    return named or sent


def _check_kind(manifest: _Object, kind: ManifestKind) -> None:
    version = manifest.fields.get("schemaVersion")
    if type(version) is not int or version != 2:
        raise manifest.wrong("schemaVersion", "2")
    for name in _FIELDS_OF_OTHERS[kind]:
        if name in manifest.fields:
            what = "an image index" if kind == "index" else "an image manifest"
            raise ManifestInvalid(name, f"is not a field of {what}, and would make it two things at once: leave it out")


def _check_sizes(descriptors: Iterable[Descriptor | None]) -> None:
    sizes: dict[Digest, int] = {}
    for each in descriptors:
        if each and sizes.setdefault(each.digest, each.size) != each.size:
            raise ManifestInvalid(
                "the document", f"gives {each.digest} two sizes, {sizes[each.digest]} and {each.size}"
            )


def _once(descriptors: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    """The first of each digest."""
    found: dict[Digest, Descriptor] = {}
    for each in descriptors:
        found.setdefault(each.digest, each)
    return tuple(found.values())


class _Object:
    """A JSON object at `where`, with methods that check its fields; `known` has their names by casefold."""

    def __init__(self, where: str, fields: Mapping[str, Any], known: Mapping[str, str]) -> None:
        self.where, self.fields = where, fields
        for key in fields:
            if known.get(key.casefold(), key) != key:
                name = known[key.casefold()]
                raise ManifestInvalid(
                    self.place(key), f"is {name!r} to clients that ignore case: spell it that way, or use another name"
                )

    def place(self, *path: str | int) -> str:
        inner = path_text(path)
        return self.where + ("." if self.where and not inner.startswith("[") else "") + inner

    def wrong(self, name: str, expected: str) -> ManifestInvalid:
        found = f"is {show(self.fields[name])}" if name in self.fields else "is missing"
        return ManifestInvalid(self.place(name), f"{found}: expected {expected}")

    def media_type(self, name: str) -> str:
        value = self.fields.get(name)
        if not isinstance(value, str) or not _MEDIA_TYPE.fullmatch(value):
            raise self.wrong(name, "a media type such as 'application/vnd.example.data.v1+json'")
        return value

    def media_type_with_parameters(self, name: str) -> str:
        """The media type alone. Some tools add parameters to descriptors, as in HTTP (RFC 9110, section 8.3.1)."""
        value = self.fields.get(name)
        found = _WITH_PARAMETERS.fullmatch(value) if isinstance(value, str) else None
        return found[1] if found else self.media_type(name)

    def optional_media_type(self, name: str) -> str | None:
        """None if it is missing, null or empty: programs in Go do not tell these apart."""
        return None if self.fields.get(name) in (None, "") else self.media_type(name)

    def strings(self, name: str) -> Mapping[str, str]:
        value = self.fields.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.wrong(name, "an object of strings")
        for key, each in value.items():
            if not isinstance(each, str):
                raise ManifestInvalid(self.place(name, key), f"is {show(each)}: expected a string")
        return value

    def string_list(self, name: str) -> list[str]:
        value = self.fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "a list of strings")
        for position, each in enumerate(value):
            if not isinstance(each, str):
                raise ManifestInvalid(self.place(name, position), f"is {show(each)}: expected a string")
        return value

    def descriptors(self, name: str) -> list[Descriptor]:
        """A required list, which may be null, as Go writes an empty list."""
        value = self.fields.get(name)
        if name not in self.fields or not isinstance(value, list | None):
            raise self.wrong(name, "a list of descriptors")
        return [_descriptor(each, f"{name}[{position}]") for position, each in enumerate(value or ())]

    def descriptor(self, name: str) -> Descriptor:
        if name not in self.fields:
            raise self.wrong(name, "a descriptor")
        return _descriptor(self.fields[name], name)


def _descriptor(value: object, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise ManifestInvalid(where, f"is {show(value)}: expected a descriptor (an object)")
    each = _Object(where, value, _DESCRIPTOR_FIELDS)
    media_type = each.media_type_with_parameters("mediaType")
    digest = _digest(each)
    size = value.get("size")
    if type(size) is not int or not 0 <= size <= LARGEST_SIZE:
        raise each.wrong("size", f"a whole number of bytes, 0 to {LARGEST_SIZE}")
    each.string_list("urls")
    if value.get("data") is not None:
        _check_data(each, digest, size)
    return Descriptor(
        media_type,
        digest,
        size,
        platform=_platform(each),
        annotations=each.strings("annotations"),
        artifact_type=each.optional_media_type("artifactType"),
    )


def _digest(descriptor: _Object) -> Digest:
    text = descriptor.fields.get("digest")
    if isinstance(text, str):
        try:
            return Digest.parse(text)
        except DigestInvalid:
            pass
    raise descriptor.wrong("digest", "sha256: and 64, or sha512: and 128 lower-case hex digits")


def _check_data(descriptor: _Object, digest: Digest, size: int) -> None:
    text = descriptor.fields["data"]
    try:
        data = binascii.a2b_base64(text, strict_mode=True) if isinstance(text, str) else None
    except ValueError:
        data = None
    if data is None:
        raise ManifestInvalid(descriptor.place("data"), "is not base64 (RFC 4648, section 4, padded)")
    if len(data) != size:
        raise ManifestInvalid(descriptor.place("data"), f"has {len(data)} bytes, but size says {size}")
    found = Digest.of(data, digest.algorithm)
    if found != digest:
        raise ManifestInvalid(descriptor.place("data"), f"has digest {found}, but the descriptor says {digest}")


def _platform(descriptor: _Object) -> Mapping[str, str] | None:
    """The platform's strings."""
    value = descriptor.fields.get("platform")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise descriptor.wrong("platform", "an object")
    platform = _Object(f"{descriptor.where}.platform", value, _PLATFORM_FIELDS)
    for name in ("os.features", "features"):
        platform.string_list(name)
    for name in ("architecture", "os", "os.version", "variant"):
        if not isinstance(value.get(name), str | None):
            raise platform.wrong(name, "a string")
    return {name: each for name, each in value.items() if isinstance(each, str)}
