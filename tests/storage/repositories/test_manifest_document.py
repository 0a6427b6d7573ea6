"""What a manifest says: its kind, its type, its blobs and its entry among referrers."""

from __future__ import annotations

from typing import Any

import pytest

from storage.digest import Descriptor
from storage.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from storage.repositories.manifest_document import KINDS, read_manifest
from tests.support.storage import manifests_in_the_wild as wild
from tests.support.storage.manifests import MEDIA_TYPE, NONDISTRIBUTABLE, body, expect_refusal, names
from tests.support.storage.manifests_in_the_wild import descriptor, digest, image, index

TYPES = ", ".join(KINDS)
BUT_SENT = "but the request's Content-Type is"


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
        expect_refusal(document, text, content_type)

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
        expect_refusal(document, text, content_type)


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
