"""What a manifest says, what is refused of it and with which words, and that nothing else is ever raised."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.digest import Descriptor, Digest
from storage.errors import JsonInvalid, ManifestInvalid
from storage.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from storage.repositories.manifest_document import KINDS, read_manifest
from tests.support.storage import manifests_in_the_wild as wild
from tests.support.storage.manifests_in_the_wild import descriptor, digest, image, index

NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
LARGEST = 9223372036854775807
TYPES = ", ".join(KINDS)
MEDIA_TYPE = "expected a media type such as 'application/vnd.example.data.v1+json'"
BUT_SENT = "but the request's Content-Type is"
HEX = "expected sha256: and 64, or sha512: and 128 lower-case hex digits"


def body(document: object) -> bytes:
    return json.dumps(document).encode()


def names(descriptors: tuple[Descriptor, ...]) -> list[Digest]:
    return [each.digest for each in descriptors]


class TestInTheWild:
    @pytest.mark.parametrize("document", wild.IN_THE_WILD, ids=range(len(wild.IN_THE_WILD)))
    def test_it_is_taken(self, document: dict[str, Any]) -> None:
        media_type = document.get("mediaType") or OCI_MANIFEST
        found = read_manifest(media_type, body(document))
        assert (found.media_type, found.kind) == (media_type, "index" if "manifests" in document else "image")
        assert dict(found.annotations) == (document.get("annotations") or {})

    @pytest.mark.parametrize(
        ("document", "blobs"),
        [
            (wild.BUILDX_ATTESTATION, ["attestation config", "provenance"]),
            (wild.BUILDX_ARTIFACT_ATTESTATION, ["{}", "provenance"]),
            (wild.COSIGN_SIGNATURE, ["config", "payload"]),
            (wild.HELM_CHART, ["chart config", "chart", "provenance"]),
            (wild.ORAS_ARTIFACT, ["{}", "hello", "folder"]),
            (wild.ORAS_ATTACHED_WITHOUT_FILES, ["{}"]),
            (wild.SINGULARITY, ["", "sif"]),
            (wild.DOCKER_IMAGE, ["docker config", "first", "second"]),
            (wild.WINDOWS_IMAGE, ["windows config", "ours"]),
            (wild.WRITTEN_IN_GO, ["config"]),
            (wild.BUILDX_INDEX, []),
            (wild.BUILDKIT_CACHE, []),
        ],
    )
    def test_blobs_that_have_to_be_here(self, document: dict[str, Any], blobs: list[str]) -> None:
        found = read_manifest(document.get("mediaType", OCI_MANIFEST), body(document))
        assert names(found.blobs) == [digest(each) for each in blobs]
        assert found.config == (found.blobs[0] if found.kind == "image" else None)

    @pytest.mark.parametrize(
        ("document", "artifact_type"),
        [
            (wild.BUILDX_ARTIFACT_ATTESTATION, "application/vnd.docker.attestation.manifest.v1+json"),
            (wild.COSIGN_SIGNATURE, OCI_CONFIG),
            (wild.COSIGN_REFERRER, "application/vnd.dev.sigstore.bundle.v0.3+json"),
            (wild.HELM_CHART, "application/vnd.cncf.helm.config.v1+json"),
            (wild.NOTATION_SIGNATURE, "application/vnd.cncf.notary.signature"),
            (wild.PODMAN_ARTIFACT, wild.EMPTY_JSON),
            (wild.WRITTEN_IN_GO, OCI_CONFIG),
            (wild.BUILDX_INDEX, None),
            (wild.FALLBACK_TAG, None),
        ],
    )
    def test_the_type_of_the_artifact(self, document: dict[str, Any], artifact_type: str | None) -> None:
        found = read_manifest(document.get("mediaType", OCI_MANIFEST), body(document))
        assert found.artifact_type == artifact_type

    def test_the_children_of_an_index_are_its_manifests(self) -> None:
        found = read_manifest(OCI_INDEX, body(wild.BUILDX_INDEX))
        assert [each.to_json() for each in found.children] == wild.BUILDX_INDEX["manifests"]
        assert found.optional_blobs == ()

    def test_a_manifest_for_two_platforms_is_one_child(self) -> None:
        found = read_manifest(DOCKER_LIST, body(wild.DOCKER_MANIFEST_LIST))
        assert names(found.children) == [digest("windows"), digest("arm")]
        assert found.children[0].platform == {
            "architecture": "amd64",
            "os": "windows",
            "os.version": "10.0.17763.6893",
        }

    def test_the_blobs_of_a_build_cache_are_not_lost(self) -> None:
        found = read_manifest(OCI_INDEX, body(wild.BUILDKIT_CACHE))
        assert found.children == ()
        assert names(found.optional_blobs) == [digest("cached layer"), digest("cache config")]

    def test_layers_that_are_elsewhere(self) -> None:
        assert names(read_manifest(None, body(wild.WINDOWS_IMAGE)).optional_blobs) == [digest("base")]

    def test_the_entry_of_a_fallback_tag_keeps_what_it_says(self) -> None:
        (entry,) = read_manifest(OCI_INDEX, body(wild.FALLBACK_TAG)).children
        assert entry.to_json() == wild.FALLBACK_TAG["manifests"][0]


class TestMediaType:
    @pytest.mark.parametrize("media_type", KINDS)
    @pytest.mark.parametrize("content_type", [None, "", "{}", "{}; charset=utf-8", " {} ;x=y;z", "upper"])
    def test_content_type_and_field_agree(self, media_type: str, content_type: str | None) -> None:
        document = index(media_type=media_type) if KINDS[media_type] == "index" else image(media_type)
        if content_type:
            content_type = media_type.upper() if content_type == "upper" else content_type.replace("{}", media_type)
        found = read_manifest(content_type, body(document))
        assert (found.media_type, found.kind) == (media_type, KINDS[media_type])

    @pytest.mark.parametrize("named", [{}, {"mediaType": None}, {"mediaType": ""}])
    def test_without_the_field_the_content_type_decides(self, named: dict[str, Any]) -> None:
        assert read_manifest(OCI_MANIFEST, body({**image(None), **named})).kind == "image"
        assert read_manifest(f"{OCI_INDEX};q=1", body({**index(media_type=None), **named})).kind == "index"

    @pytest.mark.parametrize(
        ("content_type", "named", "text"),
        [
            (None, None, f"mediaType is missing, and so is the request's Content-Type: expected one of {TYPES}"),
            (
                "; charset=utf-8",
                None,
                f"mediaType is missing, and so is the request's Content-Type: expected one of {TYPES}",
            ),
            (
                OCI_INDEX,
                OCI_MANIFEST,
                f"mediaType is '{OCI_MANIFEST}', {BUT_SENT} '{OCI_INDEX}': expected the same",
            ),
            (
                "application/json",
                OCI_MANIFEST,
                f"mediaType is '{OCI_MANIFEST}', {BUT_SENT} 'application/json': expected the same",
            ),
            (
                DOCKER_MANIFEST,
                OCI_MANIFEST,
                f"mediaType is '{OCI_MANIFEST}', {BUT_SENT} '{DOCKER_MANIFEST}': expected the same",
            ),
            (
                "a/b, c/d",
                OCI_MANIFEST,
                f"mediaType is '{OCI_MANIFEST}', {BUT_SENT} 'a/b, c/d': expected the same",
            ),
            (
                "text/html",
                None,
                f"mediaType is missing, and the request's Content-Type is 'text/html': expected one of {TYPES}",
            ),
            (None, "text/html", f"mediaType is 'text/html': expected one of {TYPES}"),
            ("a/b", "a/b", f"mediaType is 'a/b': expected one of {TYPES}"),
            (OCI_CONFIG, OCI_CONFIG, f"mediaType is '{OCI_CONFIG}': expected one of {TYPES}"),
            (
                "application/vnd.oci.artifact.manifest.v1+json",
                "application/vnd.oci.artifact.manifest.v1+json",
                f"mediaType is 'application/vnd.oci.artifact.manifest.v1+json': expected one of {TYPES}",
            ),
            (
                OCI_MANIFEST,
                OCI_MANIFEST.upper(),
                f"mediaType is '{OCI_MANIFEST.upper()}', {BUT_SENT} '{OCI_MANIFEST}': expected the same",
            ),
            (OCI_MANIFEST, 7, f"mediaType is 7: {MEDIA_TYPE}"),
            (OCI_MANIFEST, [OCI_MANIFEST], f"mediaType is a list: {MEDIA_TYPE}"),
            (OCI_MANIFEST, "x", f"mediaType is 'x': {MEDIA_TYPE}"),
            (
                DOCKER_MANIFEST,
                None,
                f"mediaType is missing: docker's manifests have to say it, here '{DOCKER_MANIFEST}'",
            ),
            (DOCKER_LIST, None, f"mediaType is missing: docker's manifests have to say it, here '{DOCKER_LIST}'"),
        ],
    )
    def test_what_is_refused(self, content_type: str | None, named: Any, text: str) -> None:
        document = image(None) if named is None else {**image(None), "mediaType": named}
        refused(document, text, content_type)

    @pytest.mark.parametrize(
        ("content_type", "document"),
        [
            (None, {"schemaVersion": 1, "name": "a", "fsLayers": []}),
            ("application/vnd.docker.distribution.manifest.v1+prettyjws", {"schemaVersion": 1}),
            ("application/vnd.docker.distribution.manifest.v1+json", {}),
            (OCI_MANIFEST, image(schemaVersion=1)),
            (None, image("application/vnd.docker.distribution.manifest.v1+json")),
        ],
    )
    def test_schema_1_is_refused_with_advice(self, content_type: str | None, document: dict[str, Any]) -> None:
        text = (
            "the document has docker's image manifest schema 1, which is no longer accepted: push the image with a "
            "current client, or convert it (skopeo copy --format v2s2)"
        )
        refused(document, text, content_type)


def refused(document: object, text: str, content_type: str | None = None) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        read_manifest(content_type, body(document))
    assert str(caught.value) == f"invalid manifest: {text}"


def changed(**fields: Any) -> dict[str, Any]:
    return {**image(), **fields}


def without(document: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in fields}


def layer(**fields: Any) -> dict[str, Any]:
    return image(layers=[descriptor(OCI_LAYER_GZIP, "first"), {**descriptor(OCI_LAYER_GZIP, "layer"), **fields}])


def data(text: Any, content: str = "layer") -> dict[str, Any]:
    return image(layers=[descriptor(OCI_LAYER_GZIP, content, data=text)])


@pytest.mark.parametrize(
    ("document", "text"),
    [
        # the document
        ([], "the document is a list: expected an object"),
        (None, "the document is null: expected an object"),
        ("x" * 1000, f"the document is '{'x' * 97}...': expected an object"),
        (7, "the document is 7: expected an object"),
        (without(image(), "schemaVersion"), "schemaVersion is missing: expected 2"),
        (changed(schemaVersion=3), "schemaVersion is 3: expected 2"),
        (changed(schemaVersion="2"), "schemaVersion is '2': expected 2"),
        (changed(schemaVersion=2.0), "schemaVersion is 2.0: expected 2"),
        (changed(schemaVersion=True), "schemaVersion is true: expected 2"),
        (changed(schemaVersion=None), "schemaVersion is null: expected 2"),
        (without(index(), "schemaVersion"), "schemaVersion is missing: expected 2"),
        # two things at once
        (
            changed(manifests=[]),
            "manifests is not a field of an image manifest, and would make it two things at once: leave it out",
        ),
        (
            changed(manifests=None),
            "manifests is not a field of an image manifest, and would make it two things at once: leave it out",
        ),
        (
            changed(fsLayers=[]),
            "fsLayers is not a field of an image manifest, and would make it two things at once: leave it out",
        ),
        (
            index(layers=[]),
            "layers is not a field of an image index, and would make it two things at once: leave it out",
        ),
        (
            index(config=descriptor(OCI_CONFIG, "c")),
            "config is not a field of an image index, and would make it two things at once: leave it out",
        ),
        (
            index(fsLayers=[]),
            "fsLayers is not a field of an image index, and would make it two things at once: leave it out",
        ),
        (
            index(config=None, layers=None),
            "config is not a field of an image index, and would make it two things at once: leave it out",
        ),
        (
            {**index(), "mediaType": OCI_MANIFEST},
            "manifests is not a field of an image manifest, and would make it two things at once: leave it out",
        ),
        (
            {**image(), "mediaType": OCI_INDEX},
            "config is not a field of an image index, and would make it two things at once: leave it out",
        ),
        # names that differ in case only: Go's decoder takes either
        (changed(Layers=[]), "Layers is 'layers' to clients that ignore case: spell it that way, or use another name"),
        (
            changed(MANIFESTS=[]),
            "MANIFESTS is 'manifests' to clients that ignore case: spell it that way, or use another name",
        ),
        (
            {**image(), "\u017fubject": {}},
            "['\u017fubject'] is 'subject' to clients that ignore case: spell it that way, or use another name",
        ),
        (
            layer(Digest=digest("other")),
            "layers[1].Digest is 'digest' to clients that ignore case: spell it that way, or use another name",
        ),
        (
            index(descriptor(OCI_MANIFEST, "a", platform={"OS": "linux"})),
            "manifests[0].platform.OS is 'os' to clients that ignore case: spell it that way, or use another name",
        ),
        # required
        (without(image(), "config"), "config is missing: expected a descriptor"),
        (without(image(), "layers"), "layers is missing: expected a list of descriptors"),
        (without(index(), "manifests"), "manifests is missing: expected a list of descriptors"),
        (changed(config=None), "config is null: expected a descriptor (an object)"),
        (changed(config=[]), "config is a list: expected a descriptor (an object)"),
        (changed(config={}), f"config.mediaType is missing: {MEDIA_TYPE}"),
        (changed(layers={}), "layers is an object: expected a list of descriptors"),
        (changed(layers="x"), "layers is 'x': expected a list of descriptors"),
        (changed(layers=False), "layers is false: expected a list of descriptors"),
        (changed(layers=[[]]), "layers[0] is a list: expected a descriptor (an object)"),
        (changed(layers=[None]), "layers[0] is null: expected a descriptor (an object)"),
        ({**index(), "manifests": ["sha256:0"]}, "manifests[0] is 'sha256:0': expected a descriptor (an object)"),
        (changed(subject="x"), "subject is 'x': expected a descriptor (an object)"),
        (changed(subject={}), f"subject.mediaType is missing: {MEDIA_TYPE}"),
        (index(subject=[]), "subject is a list: expected a descriptor (an object)"),
        # descriptors
        (layer(mediaType=""), f"layers[1].mediaType is '': {MEDIA_TYPE}"),
        (layer(mediaType=None), f"layers[1].mediaType is null: {MEDIA_TYPE}"),
        (layer(mediaType="plain"), f"layers[1].mediaType is 'plain': {MEDIA_TYPE}"),
        (layer(mediaType="a/b/c"), f"layers[1].mediaType is 'a/b/c': {MEDIA_TYPE}"),
        (layer(mediaType="a/b;c"), f"layers[1].mediaType is 'a/b;c': {MEDIA_TYPE}"),
        (layer(mediaType="a/b\n"), f"layers[1].mediaType is 'a/b\\n': {MEDIA_TYPE}"),
        (layer(mediaType=" a/b"), f"layers[1].mediaType is ' a/b': {MEDIA_TYPE}"),
        (layer(mediaType="a/\u00e9"), f"layers[1].mediaType is 'a/\u00e9': {MEDIA_TYPE}"),
        (layer(mediaType=".a/b"), f"layers[1].mediaType is '.a/b': {MEDIA_TYPE}"),
        (layer(mediaType="a/" + "b" * 128), f"layers[1].mediaType is 'a/{'b' * 95}...': {MEDIA_TYPE}"),
        (layer(mediaType="a" * 128 + "/b"), f"layers[1].mediaType is '{'a' * 97}...': {MEDIA_TYPE}"),
        (layer(digest=None), f"layers[1].digest is null: {HEX}"),
        (layer(digest=7), f"layers[1].digest is 7: {HEX}"),
        (layer(digest=""), f"layers[1].digest is '': {HEX}"),
        (layer(digest="sha256:" + "A" * 64), f"layers[1].digest is 'sha256:{'A' * 64}': {HEX}"),
        (layer(digest="sha256:" + "a" * 63), f"layers[1].digest is 'sha256:{'a' * 63}': {HEX}"),
        (layer(digest=digest("x") + "\n"), f"layers[1].digest is '{digest('x')}\\n': {HEX}"),
        (layer(digest="md5:" + "a" * 32), f"layers[1].digest is 'md5:{'a' * 32}': {HEX}"),
        (layer(digest="blake3:" + "a" * 64), f"layers[1].digest is 'blake3:{'a' * 64}': {HEX}"),
        (without(descriptor("a/b", "x"), "digest"), f"config.digest is missing: {HEX}"),
        (layer(size=-1), f"layers[1].size is -1: expected a whole number of bytes, 0 to {LARGEST}"),
        (layer(size="5"), f"layers[1].size is '5': expected a whole number of bytes, 0 to {LARGEST}"),
        (layer(size=5.0), f"layers[1].size is 5.0: expected a whole number of bytes, 0 to {LARGEST}"),
        (layer(size=True), f"layers[1].size is true: expected a whole number of bytes, 0 to {LARGEST}"),
        (layer(size=None), f"layers[1].size is null: expected a whole number of bytes, 0 to {LARGEST}"),
        (layer(urls="https://x"), "layers[1].urls is 'https://x': expected a list of strings"),
        (layer(urls=["https://x", None]), "layers[1].urls[1] is null: expected a string"),
        (layer(annotations=[]), "layers[1].annotations is a list: expected an object of strings"),
        (layer(annotations={"a": "b", "c": 7}), "layers[1].annotations.c is 7: expected a string"),
        (layer(artifactType="x"), f"layers[1].artifactType is 'x': {MEDIA_TYPE}"),
        (layer(platform="linux/amd64"), "layers[1].platform is 'linux/amd64': expected an object"),
        (layer(platform={"os": ["linux"]}), "layers[1].platform.os is a list: expected a string"),
        (layer(platform={"os.version": 7}), "layers[1].platform['os.version'] is 7: expected a string"),
        (layer(platform={"os.features": "a"}), "layers[1].platform['os.features'] is 'a': expected a list of strings"),
        # data
        (data(7), "layers[0].data is not base64 (RFC 4648, section 4, padded)"),
        (data("!"), "layers[0].data is not base64 (RFC 4648, section 4, padded)"),
        (data("\u00e9"), "layers[0].data is not base64 (RFC 4648, section 4, padded)"),
        (data("bGF5ZXI"), "layers[0].data is not base64 (RFC 4648, section 4, padded)"),
        (data("bGF5\nZXI="), "layers[0].data is not base64 (RFC 4648, section 4, padded)"),
        (data("bGF5ZXI=="), "layers[0].data is not base64 (RFC 4648, section 4, padded)"),
        (data("bGF5ZXI=bGF5ZXI="), "layers[0].data is not base64 (RFC 4648, section 4, padded)"),
        (data(""), "layers[0].data has 0 bytes, but size says 5"),
        (data("bGF5ZXJz"), "layers[0].data has 6 bytes, but size says 5"),
        (
            data("cmV5YWw="),
            f"layers[0].data has digest {digest('reyal')}, but the descriptor says {digest('layer')}",
        ),
        # the manifest's own
        (changed(annotations="x"), "annotations is 'x': expected an object of strings"),
        (changed(annotations={"a": None}), "annotations.a is null: expected a string"),
        (changed(annotations={"org.example": {}}), "annotations['org.example'] is an object: expected a string"),
        (index(annotations={"a": 1}), "annotations.a is 1: expected a string"),
        (changed(artifactType="x"), f"artifactType is 'x': {MEDIA_TYPE}"),
        (changed(artifactType=7), f"artifactType is 7: {MEDIA_TYPE}"),
        (index(artifactType=[]), f"artifactType is a list: {MEDIA_TYPE}"),
        # one digest has one size
        (
            image(layers=[descriptor(OCI_LAYER_GZIP, "a"), {**descriptor(OCI_LAYER_GZIP, "a"), "size": 2}]),
            f"the document gives {digest('a')} two sizes, 1 and 2",
        ),
        (
            image(subject={**descriptor(OCI_MANIFEST, "layer"), "size": 6}),
            f"the document gives {digest('layer')} two sizes, 6 and 5",
        ),
        (
            index({**descriptor(OCI_MANIFEST, "a"), "size": 7}, subject=descriptor(OCI_MANIFEST, "a")),
            f"the document gives {digest('a')} two sizes, 1 and 7",
        ),
    ],
)
def test_what_is_refused_and_how_it_is_said(document: Any, text: str) -> None:
    if (
        isinstance(document, dict)
        and "schemaVersion" not in document
        and "digest" not in document
        and "size" in document
    ):
        document = image(config=document)
    refused(document, text)


@pytest.mark.parametrize(
    "document",
    [
        image(layers=[]),
        image(layers=None),
        index(),
        index(**{"org.EXAMPLE": "custom"}),
        {**index(), "manifests": None},
        {**image(), "org.example": {"deep": [[[[[[7]]]]]]}, "custom": None, "blobs": [], "history": [1]},
        image(layers=[descriptor(OCI_LAYER_GZIP, "a", custom=[1.5], uRLs2=None)]),
        image(
            layers=[
                descriptor(OCI_LAYER_GZIP, "a", urls=None, data=None, annotations=None, platform=None, artifactType="")
            ]
        ),
        image(layers=[descriptor(OCI_LAYER_GZIP, "a", urls=[], annotations={}, platform={}, artifactType="a/b")]),
        image(layers=[descriptor(OCI_LAYER_GZIP, "a", platform={"os.features": None, "os": None, "custom": 7})]),
        image(layers=[descriptor("a/b", "a", size=2**63 - 1)]),
        image(layers=[descriptor("a" * 127 + "/" + "b!#$&^_.+-" * 12 + "1234567", "a")]),
        image(layers=[{"mediaType": "a/b", "digest": Digest.of(b"x", "sha512"), "size": 1, "data": "eA=="}]),
        image(layers=[{"mediaType": "a/b", "digest": Digest.of(b""), "size": 0, "data": ""}]),
        image(config=wild.EMPTY_CONFIG, layers=[wild.EMPTY_CONFIG, wild.EMPTY_CONFIG]),
        image(subject=None, annotations={"": "", "\u0000": "\U0001f600"}),
        image(subject=descriptor("application/vnd.unknown", "missing")),
        index(descriptor(OCI_INDEX, "nested"), descriptor("application/vnd.future.manifest.v9+json", "unknown")),
        index(subject=descriptor(OCI_INDEX, "x"), artifactType="a/b", annotations={"a": "b"}),
    ],
    ids=range(19),
)
def test_what_is_fine(document: dict[str, Any]) -> None:
    assert read_manifest(None, body(document)).kind == ("index" if "manifests" in document else "image")


class TestBlobs:
    def test_non_distributable_layers_are_optional(self) -> None:
        layers = [
            descriptor(f"{NONDISTRIBUTABLE}{suffix}", f"layer{suffix}", urls=["https://example.com/"])
            for suffix in ("", "+gzip", "+zstd")
        ]
        found = read_manifest(None, body(image(layers=[*layers, descriptor(OCI_LAYER_GZIP, "ours")])))
        assert names(found.blobs) == [digest("config"), digest("ours")]
        assert names(found.optional_blobs) == [digest("layer"), digest("layer+gzip"), digest("layer+zstd")]

    def test_urls_make_no_layer_optional(self) -> None:
        document = image(layers=[descriptor(OCI_LAYER_GZIP, "layer", urls=["https://example.com/"])])
        assert read_manifest(None, body(document)).optional_blobs == ()

    def test_the_config_never_is(self) -> None:
        found = read_manifest(None, body(image(config=descriptor(NONDISTRIBUTABLE, "config"))))
        assert names(found.blobs) == [digest("config"), digest("layer")]

    @pytest.mark.parametrize("step", [1, -1])
    def test_what_is_needed_as_one_thing_is_not_optional_as_another(self, step: int) -> None:
        layers = [descriptor(NONDISTRIBUTABLE, "layer"), descriptor(OCI_LAYER_GZIP, "layer")]
        found = read_manifest(None, body(image(layers=layers[::step])))
        assert (names(found.blobs), found.optional_blobs) == ([digest("config"), digest("layer")], ())

    def test_each_digest_is_there_once(self) -> None:
        layers = [descriptor("a/b", "config"), descriptor(OCI_LAYER_GZIP, "x"), descriptor("c/d", "x")]
        found = read_manifest(None, body(image(layers=layers)))
        assert [each.media_type for each in found.blobs] == [OCI_CONFIG, OCI_LAYER_GZIP]


class TestReferrers:
    """distribution-spec, "Listing Referrers"."""

    @pytest.mark.parametrize(
        ("document", "more"),
        [
            (image(), {"artifactType": OCI_CONFIG}),
            (image(artifactType="a/b", annotations={"k": "v"}), {"artifactType": "a/b", "annotations": {"k": "v"}}),
            (image(artifactType=""), {"artifactType": OCI_CONFIG}),
            (wild.PODMAN_ARTIFACT, {"artifactType": wild.EMPTY_JSON}),
            (index(artifactType="a/b"), {"artifactType": "a/b"}),
            (index(artifactType=""), {}),
            (index(annotations={"k": ""}), {"annotations": {"k": ""}}),
        ],
    )
    def test_the_entry(self, document: dict[str, Any], more: dict[str, Any]) -> None:
        found = read_manifest(None, body(document))
        assert found.artifact_type == more.get("artifactType")
        assert found.annotations == more.get("annotations", {})

    def test_the_subject(self) -> None:
        subject = descriptor(OCI_MANIFEST, "amd64", platform={"architecture": "amd64", "os": "linux"})
        found = read_manifest(None, body(wild.BUILDX_ARTIFACT_ATTESTATION))
        assert found.subject == Descriptor.from_json(subject)
        assert read_manifest(None, body(image())).subject is None


def test_a_manifest_of_4_mib_is_fine() -> None:
    large = {f"large-annotation-{number}": "A" * 10_000 for number in range(390)}
    assert read_manifest(None, body(image(annotations=large))).annotations == large
    layers = [descriptor(OCI_LAYER_GZIP, f"{number:032}") for number in range(25_000)]
    assert len(read_manifest(None, body(image(layers=layers))).blobs) == 25_001


def test_what_is_wrong_with_the_json_is_told_too() -> None:
    with pytest.raises(JsonInvalid, match=r"invalid JSON at config: it has the key 'size' twice"):
        read_manifest(OCI_MANIFEST, b'{"config":{"size":1,"size":2}}')
    with pytest.raises(JsonInvalid, match="invalid JSON at byte 0: it is empty"):
        read_manifest(OCI_MANIFEST, b"")


# generated manifests

MEDIA_TYPES = st.from_regex(r"[a-z0-9][a-z0-9.+-]{0,8}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,12}", fullmatch=True)
STRINGS = st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=3)
FOUND_TYPES = st.sampled_from(
    [*KINDS, OCI_CONFIG, OCI_LAYER_GZIP, NONDISTRIBUTABLE, wild.FOREIGN_LAYER, wild.EMPTY_JSON]
)


@st.composite
def descriptors(draw: st.DrawFn) -> dict[str, Any]:
    content = draw(st.binary(max_size=4))
    algorithm = draw(st.sampled_from(["sha256", "sha512"]))
    optional = {
        "urls": st.lists(st.text(max_size=5), max_size=2),
        "annotations": STRINGS,
        "artifactType": MEDIA_TYPES,
        "data": st.just(base64.b64encode(content).decode()),
        "platform": st.fixed_dictionaries({"os": st.text(max_size=5), "architecture": st.text(max_size=5)}),
        "org.example.custom": st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    }
    return {
        "mediaType": draw(MEDIA_TYPES | FOUND_TYPES),
        "digest": Digest.of(content, algorithm),
        "size": len(content),
        **draw(st.fixed_dictionaries({}, optional=optional)),
    }


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    optional = {
        "subject": descriptors(),
        "annotations": STRINGS,
        "artifactType": MEDIA_TYPES,
        "custom": st.integers(0, 9),
    }
    media_type = draw(st.sampled_from(list(KINDS)))
    listed = st.lists(descriptors(), max_size=3)
    content = {"manifests": listed} if KINDS[media_type] == "index" else {"config": descriptors(), "layers": listed}
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        **draw(st.fixed_dictionaries(content)),
        **draw(st.fixed_dictionaries({}, optional=optional)),
    }
    return dict(draw(st.permutations(list(document.items()))))


@settings(deadline=None)
@given(document=manifests(), indent=st.none() | st.just(3), ascii_only=st.booleans())
def test_a_valid_manifest_is_read_as_what_it_says(
    document: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    content = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    found = read_manifest(document["mediaType"], content)
    assert found.media_type == document["mediaType"]
    assert found.annotations == document.get("annotations", {})
    assert same(found.subject, document.get("subject"))
    listed = document.get("layers", document.get("manifests", []))
    everything = {each["digest"] for each in listed}
    if found.kind == "image":
        assert same(found.config, document["config"])
        assert found.artifact_type == document.get("artifactType", document["config"]["mediaType"])
        assert found.children == ()
        assert found.blobs[0] is found.config
        elsewhere = (NONDISTRIBUTABLE, wild.FOREIGN_LAYER)
        here = {each["digest"] for each in listed if each["mediaType"] not in elsewhere}
        assert set(names(found.blobs)) == here | {document["config"]["digest"]}
        everything.add(document["config"]["digest"])
    else:
        assert (found.config, found.blobs) == (None, ())
        assert found.artifact_type == document.get("artifactType")
        assert set(names(found.children)) == {each["digest"] for each in listed if each["mediaType"] in KINDS}
    kept = [*found.blobs, *found.optional_blobs, *found.children]
    assert set(names(tuple(kept))) == everything
    assert all(any(same(each, other) for other in [document.get("config"), *listed]) for each in kept)


def same(found: Descriptor | None, document: Mapping[str, Any] | None) -> bool:
    """Whether a descriptor is what it was read from, but for what a registry has no use for."""
    if found is None or document is None:
        return found is None and document is None
    unused = ("urls", "data", "org.example.custom")
    return Descriptor.from_json({key: value for key, value in document.items() if key not in unused}) == found


# anything else

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=6)
    | st.sampled_from([*KINDS, digest("x"), "sha256:", "a/b", "e30="]),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from([*wild.EMPTY_CONFIG, "config", "layers"]), each, max_size=4
        )
    ),
    max_leaves=8,
)
CONTENT_TYPES = st.none() | st.text(max_size=6) | st.sampled_from([*KINDS, "application/json", f"{OCI_MANIFEST};a=b"])


def is_read_or_refused(content_type: str | None, content: bytes) -> None:
    try:
        read_manifest(content_type, content)
    except (ManifestInvalid, JsonInvalid) as error:
        text = str(error)
    else:
        text = ""
    assert len(text) < 1000
    assert text == "" or text.isprintable()


@settings(deadline=None)
@given(content_type=CONTENT_TYPES, value=JSON)
def test_any_json_is_read_or_refused(content_type: str | None, value: Any) -> None:
    is_read_or_refused(content_type, body(value))


@given(content_type=CONTENT_TYPES, content=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(content_type: str | None, content: bytes) -> None:
    is_read_or_refused(content_type, content)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for step in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[step], (*path, step))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    document = copy.deepcopy(document)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return document


@settings(deadline=None)
@given(document=manifests(), value=JSON, data=st.data())
def test_a_manifest_with_anything_in_one_place_is_read_or_refused(
    document: dict[str, Any], value: Any, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(list(places(document))))
    is_read_or_refused(document["mediaType"], body(replaced(document, path, value)))


COMPLETE = [
    image(
        artifactType="a/b",
        config=descriptor(OCI_CONFIG, "{}", data="e30=", urls=["x"], annotations={"a": "b"}),
        layers=[descriptor(OCI_LAYER_GZIP, "x", platform={"os": "a", "architecture": "b", "os.features": ["c"]})],
        subject=descriptor(OCI_MANIFEST, "y"),
        annotations={"a": "b"},
    ),
    index(descriptor(OCI_MANIFEST, "x", artifactType="a/b"), annotations={"a": "b"}, artifactType="c/d"),
]
WRONG: list[Callable[[Any], Any]] = [
    lambda value: [value],
    lambda value: {"a": value},
    lambda value: str(value) if not isinstance(value, str) else 7,
    lambda _: True,
    lambda _: -1.5,
]


@pytest.mark.parametrize(
    ("document", "path"),
    [(document, path) for document in COMPLETE for path in places(document)],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("wrong", WRONG, ids=["list", "object", "text", "true", "number"])
def test_no_field_may_be_of_another_type(document: Any, path: tuple[Any, ...], wrong: Callable[[Any], Any]) -> None:
    value = document
    for step in path:
        value = value[step]
    value = wrong(value)
    if path[-1:] == ("platform",) and isinstance(value, dict):
        value = {"os": value}
    with pytest.raises(ManifestInvalid) as caught:
        read_manifest(document["mediaType"], body(replaced(document, path, value)))
    if path:
        assert caught.value.where.startswith(str(path[0]))


@pytest.mark.parametrize("parameters", ["; charset=utf-8", ";a=b", ' ; title="a b"; v=1'])
def test_a_descriptors_media_type_may_have_parameters(parameters: str) -> None:
    """As distribution takes it: some tools write them, and a client that reads the index copes with them or not."""
    child = descriptor(OCI_MANIFEST, "a")
    document = read_manifest(None, body(index({**child, "mediaType": OCI_MANIFEST + parameters})))
    assert [each.digest for each in document.children] == [child["digest"]]
    assert document.optional_blobs == ()


@pytest.mark.parametrize("parameters", [";", ";a", "; a=", ";a=b;", '; a="', ";a=b" * 9, "; a=b\n"])
def test_but_they_have_to_be_some(parameters: str) -> None:
    with pytest.raises(ManifestInvalid, match="mediaType"):
        read_manifest(None, body(index({**descriptor(OCI_MANIFEST, "a"), "mediaType": OCI_MANIFEST + parameters})))
