"""What other tools push, in the form in which they do: charts, signatures, lists of referrers, streams."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from storage.digest import Digest
from storage.oci import OCI_INDEX, OCI_MANIFEST
from tests.clients.layouts import CONFIG
from tests.clients.pushed import get, manifest, push_artifact, put_manifest
from tests.support import programs
from tests.support.server import Server

pytestmark = pytest.mark.clients


def test_helm_charts(empty: Server) -> None:
    """As `helm push` does it: a version's plus sign, which no tag may have, is an underscore."""
    chart = "application/vnd.cncf.helm."
    body = push_artifact(
        empty,
        "charts/shop",
        "1.2.3_build.4",
        f"{chart}config.v1+json",
        [(f"{chart}chart.content.v1.tar+gzip", b"a chart"), (f"{chart}chart.provenance.v1.prov", b"its provenance")],
        json.dumps({"name": "shop", "version": "1.2.3+build.4", "apiVersion": "v2"}).encode(),
        annotations={"org.opencontainers.image.version": "1.2.3+build.4"},
    )
    assert get(empty, "charts/shop/manifests/1.2.3_build.4").content == body


def test_cosign_signatures_by_tag_and_by_referrer(empty: Server) -> None:
    """The classic form is an image under a tag made of the signed digest; the newer one has it as its subject."""
    signed = push_artifact(empty, "cosign/app", "v1", CONFIG, [("application/vnd.oci.image.layer.v1.tar", b"a layer")])
    tag = Digest.of(signed).replace(":", "-")
    push_artifact(
        empty,
        "cosign/app",
        f"{tag}.sig",
        CONFIG,
        [("application/vnd.dev.cosign.simplesigning.v1+json", b'{"critical": {}}')],
        annotations={"dev.cosignproject.cosign/signature": "MEUCIQ=="},
    )
    [layer] = manifest(empty, "cosign/app", f"{tag}.sig")["layers"]
    assert layer["annotations"] == {"dev.cosignproject.cosign/signature": "MEUCIQ=="}
    bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
    body = push_artifact(
        empty,
        "cosign/app",
        "",
        "application/vnd.oci.empty.v1+json",
        [(bundle, b'{"mediaType": "a bundle"}')],
        artifactType=bundle,
        subject={"mediaType": OCI_MANIFEST, "digest": Digest.of(signed), "size": len(signed)},
    )
    answer = get(empty, f"cosign/app/referrers/{Digest.of(signed)}?artifactType={bundle.replace('+', '%2B')}")
    [entry] = answer.json()["manifests"]
    assert (entry["digest"], entry["artifactType"]) == (Digest.of(body), bundle)


def test_lists_of_referrers_that_clients_keep_themselves(empty: Server) -> None:
    """At registries without the referrers API they are an index under a tag made of the digest, and come along when
    a repository is copied from there. What they list has the subject as well, and is told by the API."""
    signed = push_artifact(empty, "fallback/app", "v1", CONFIG, [])
    subject = {"mediaType": OCI_MANIFEST, "digest": Digest.of(signed), "size": len(signed)}
    note = push_artifact(empty, "fallback/app", "", "application/x.note", [], subject=subject)
    entry = {"mediaType": OCI_MANIFEST, "digest": Digest.of(note), "size": len(note)}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    tag = Digest.of(signed).replace(":", "-")
    put_manifest(empty, "fallback/app", tag, index, OCI_INDEX)
    assert get(empty, f"fallback/app/manifests/{tag}").content == index
    answer = get(empty, f"fallback/app/referrers/{Digest.of(signed)}")
    [told] = answer.json()["manifests"]
    assert told == entry | {"artifactType": "application/x.note"}


def test_curl_streams_a_blob_of_unknown_length(empty: Server, tmp_path: Path) -> None:
    """And asks before it sends: an upload of this size makes it wait for 100 Continue."""
    programs.need("curl")
    content = os.urandom(3 << 20)
    url = f"{empty.url}/v2/curl/blob/blobs/uploads/?digest={Digest.of(content)}"
    command = ["curl", "--silent", "--show-error", "--fail", "--request", "POST", "--upload-file", "-", url]
    done = subprocess.run(command, input=content, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert get(empty, f"curl/blob/blobs/{Digest.of(content)}").content == content
