"""Manifests in the shapes that real clients push; their digests are stand-ins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.digest import Digest
from storage.oci import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)

EMPTY_JSON = "application/vnd.oci.empty.v1+json"
FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def digest(name: str, algorithm: str = "sha256") -> Digest:
    return Digest.of(name.encode(), algorithm)


def descriptor(media_type: str, name: str, **more: Any) -> dict[str, Any]:
    """The descriptor of the bytes of `name`."""
    return {"mediaType": media_type, "digest": digest(name), "size": len(name), **more}


def image(media_type: str | None = OCI_MANIFEST, **more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        **({"mediaType": media_type} if media_type else {}),
        "config": descriptor(OCI_CONFIG, "config"),
        "layers": [descriptor(OCI_LAYER_GZIP, "layer")],
        **more,
    }


def index(*entries: Mapping[str, Any], media_type: str | None = OCI_INDEX, **more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        **({"mediaType": media_type} if media_type else {}),
        "manifests": list(entries),
        **more,
    }


EMPTY_CONFIG = {
    "mediaType": EMPTY_JSON,
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2,
    "data": "e30=",
}

BUILDX_INDEX = index(
    descriptor(OCI_MANIFEST, "amd64", platform={"architecture": "amd64", "os": "linux"}),
    descriptor(OCI_MANIFEST, "arm", platform={"architecture": "arm", "os": "linux", "variant": "v7"}),
    descriptor(
        OCI_MANIFEST,
        "attestation",
        annotations={
            "vnd.docker.reference.digest": digest("amd64"),
            "vnd.docker.reference.type": "attestation-manifest",
        },
        platform={"architecture": "unknown", "os": "unknown"},
    ),
)
"""docker buildx: the provenance is an entry with an unknown platform."""

BUILDX_ATTESTATION = image(
    config=descriptor(OCI_CONFIG, "attestation config"),
    layers=[
        descriptor(
            "application/vnd.in-toto+json",
            "provenance",
            annotations={"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
        )
    ],
)

BUILDX_ARTIFACT_ATTESTATION = image(
    artifactType="application/vnd.docker.attestation.manifest.v1+json",
    config=EMPTY_CONFIG,
    layers=[descriptor("application/vnd.in-toto+json", "provenance")],
    subject=descriptor(OCI_MANIFEST, "amd64", platform={"architecture": "amd64", "os": "linux"}),
)

BUILDKIT_CACHE = index(
    descriptor(
        OCI_LAYER_GZIP,
        "cached layer",
        annotations={"buildkit/createdat": "2024-08-14T17:52:26Z", "containerd.io/uncompressed": digest("tar")},
    ),
    descriptor("application/vnd.buildkit.cacheconfig.v0", "cache config"),
)
"""BuildKit's cache before 0.21, and later with image-manifest=false: an index of blobs."""

COSIGN_SIGNATURE = image(
    layers=[
        descriptor(
            "application/vnd.dev.cosign.simplesigning.v1+json",
            "payload",
            annotations={"dev.cosignproject.cosign/signature": "MEUCIQDz", "dev.sigstore.cosign/bundle": '{"a":1}'},
        )
    ]
)

COSIGN_REFERRER = image(
    artifactType="application/vnd.dev.sigstore.bundle.v0.3+json",
    config=EMPTY_CONFIG,
    layers=[descriptor("application/vnd.dev.sigstore.bundle.v0.3+json", "bundle")],
    subject=descriptor(OCI_INDEX, "signed index"),
    annotations={"org.opencontainers.image.created": "2025-01-02T03:04:05Z", "dev.sigstore.bundle.content": "dsse"},
)

HELM_CHART = image(
    media_type=None,
    config=descriptor("application/vnd.cncf.helm.config.v1+json", "chart config"),
    layers=[
        descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "chart"),
        descriptor("application/vnd.cncf.helm.chart.provenance.v1.prov", "provenance"),
    ],
    annotations={"org.opencontainers.image.title": "mychart", "org.opencontainers.image.version": "0.1.0"},
)
"""Older versions of helm write no mediaType."""

ORAS_ARTIFACT = image(
    artifactType="application/vnd.unknown.artifact.v1",
    config=EMPTY_CONFIG,
    layers=[
        descriptor("text/plain", "hello", annotations={"org.opencontainers.image.title": "hello.txt"}),
        descriptor(OCI_LAYER_GZIP, "folder", annotations={"io.deis.oras.content.unpack": "true"}),
    ],
    annotations={"org.opencontainers.image.created": "2025-01-02T03:04:05Z"},
)

ORAS_ATTACHED_WITHOUT_FILES = image(
    artifactType="example/note",
    config=EMPTY_CONFIG,
    layers=[EMPTY_CONFIG],
    subject=descriptor(DOCKER_MANIFEST, "subject"),
    annotations={"note": "only this"},
)

PODMAN_ARTIFACT = image(config=EMPTY_CONFIG, layers=[descriptor("application/octet-stream", "file")])
"""podman artifact add without --type: an empty config, and no artifactType."""

SINGULARITY = image(
    media_type=None,
    config={"mediaType": "application/vnd.sylabs.sif.config.v1+json", "digest": digest(""), "size": 0},
    layers=[
        descriptor(
            "application/vnd.sylabs.sif.layer.v1.sif",
            "sif",
            annotations={"org.opencontainers.image.title": "alpine.sif"},
        )
    ],
)

NOTATION_SIGNATURE = image(
    config=descriptor("application/vnd.cncf.notary.signature", "{}"),
    layers=[descriptor("application/jose+json", "envelope")],
    subject=descriptor(OCI_MANIFEST, "signed"),
    annotations={"io.cncf.notary.x509chain.thumbprint#S256": '["f0"]'},
)

DOCKER_IMAGE = image(
    DOCKER_MANIFEST,
    config=descriptor(DOCKER_CONFIG, "docker config"),
    layers=[
        descriptor(DOCKER_LAYER_GZIP, "first"),
        descriptor(DOCKER_LAYER_GZIP, "second"),
        descriptor(DOCKER_LAYER_GZIP, "first"),
    ],
)

WINDOWS_IMAGE = image(
    DOCKER_MANIFEST,
    config=descriptor(DOCKER_CONFIG, "windows config"),
    layers=[
        descriptor(FOREIGN_LAYER, "base", urls=["https://mcr.microsoft.com/v2/windows/blobs/sha256:0"]),
        descriptor(DOCKER_LAYER_GZIP, "ours"),
    ],
)

DOCKER_MANIFEST_LIST = index(
    descriptor(
        DOCKER_MANIFEST,
        "windows",
        platform={
            "architecture": "amd64",
            "os": "windows",
            "os.version": "10.0.17763.6893",
            "os.features": ["win32k"],
            "features": ["sse4"],
        },
    ),
    descriptor(DOCKER_MANIFEST, "arm", platform={"architecture": "arm", "os": "linux", "variant": "v6"}),
    descriptor(DOCKER_MANIFEST, "arm", platform={"architecture": "arm", "os": "linux", "variant": "v7"}),
    media_type=DOCKER_LIST,
)

FALLBACK_TAG = index(
    descriptor(
        OCI_MANIFEST,
        "referrer",
        artifactType="application/spdx+json",
        annotations={"org.opencontainers.image.created": "2025-01-02T03:04:05Z"},
    )
)
"""What clients store under sha256-<hex> if there is no referrers API."""

WRITTEN_IN_GO = image(layers=None, annotations=None, subject=None, artifactType="")
"""Go writes empty values for fields without `omitempty`."""

IN_THE_WILD = [
    BUILDX_INDEX,
    BUILDX_ATTESTATION,
    BUILDX_ARTIFACT_ATTESTATION,
    BUILDKIT_CACHE,
    COSIGN_SIGNATURE,
    COSIGN_REFERRER,
    HELM_CHART,
    ORAS_ARTIFACT,
    ORAS_ATTACHED_WITHOUT_FILES,
    PODMAN_ARTIFACT,
    SINGULARITY,
    NOTATION_SIGNATURE,
    DOCKER_IMAGE,
    WINDOWS_IMAGE,
    DOCKER_MANIFEST_LIST,
    FALLBACK_TAG,
    WRITTEN_IN_GO,
]
