"""Manifests as clients send them, and checks that they are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from storage.digest import Descriptor, Digest
from storage.errors import ManifestInvalid
from storage.oci import OCI_LAYER_GZIP
from storage.repositories.manifest_document import read_manifest
from tests.support.storage.manifests_in_the_wild import descriptor, image

NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
LARGEST = 9223372036854775807
MEDIA_TYPE = "expected a media type such as 'application/vnd.example.data.v1+json'"
HEX = "expected sha256: and 64, or sha512: and 128 lower-case hex digits"


def body(document: object) -> bytes:
    return json.dumps(document).encode()


def names(descriptors: tuple[Descriptor, ...]) -> list[Digest]:
    return [each.digest for each in descriptors]


def expect_refusal(document: object, text: str, content_type: str | None = None) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        read_manifest(content_type, body(document))
    assert str(caught.value) == f"invalid manifest: {text}"


def layer(**fields: Any) -> dict[str, Any]:
    return image(layers=[descriptor(OCI_LAYER_GZIP, "first"), {**descriptor(OCI_LAYER_GZIP, "layer"), **fields}])


def data(text: Any, content: str = "layer") -> dict[str, Any]:
    return image(layers=[descriptor(OCI_LAYER_GZIP, content, data=text)])
