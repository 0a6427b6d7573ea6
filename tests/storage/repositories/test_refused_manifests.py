"""What is refused of manifests, in which words, and what looks odd and is fine."""

from __future__ import annotations

from typing import Any

import pytest

from storage.digest import Digest
from storage.errors import JsonInvalid
from storage.oci import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from storage.repositories.manifest_document import read_manifest
from tests.support.storage import manifests_in_the_wild as wild
from tests.support.storage.manifests import HEX, LARGEST, MEDIA_TYPE, body, data, expect_refusal, layer
from tests.support.storage.manifests_in_the_wild import descriptor, digest, image, index


def changed(**fields: Any) -> dict[str, Any]:
    return {**image(), **fields}


def without(document: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in fields}


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
    expect_refusal(document, text)


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
