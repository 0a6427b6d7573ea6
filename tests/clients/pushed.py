"""What is pushed without a client, and what clients pushed, as anybody reads it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import requests

from storage.digest import Digest
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.clients import layouts
from tests.support.registry.stored import read_log
from tests.support.server import Server

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ANY = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"


def layers(count: int = 2) -> list[bytes]:
    """Tars that no registry has yet."""
    return [layouts.tar({f"share/{number}": os.urandom(30_000)}) for number in range(count)]


def get(server: Server, path: str) -> requests.Response:
    answer = requests.get(f"{server.url}/v2/{path}", headers={"Accept": ANY}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def manifest(server: Server, repository: str, reference: str) -> dict[str, Any]:
    """Whose bytes are those of its digest."""
    answer = get(server, f"{repository}/manifests/{reference}")
    assert Digest.of(answer.content) == answer.headers["Docker-Content-Digest"]
    document: dict[str, Any] = answer.json()
    assert document.get("mediaType", answer.headers["Content-Type"]) == answer.headers["Content-Type"]
    return document


def digest(server: Server, repository: str, reference: str) -> str:
    return str(get(server, f"{repository}/manifests/{reference}").headers["Docker-Content-Digest"])


def tags(server: Server, repository: str) -> list[str]:
    return list(get(server, f"{repository}/tags/list").json()["tags"])


def uploads(server: Server, repository: str) -> dict[str, int]:
    """How many blobs came into the repository by mounts, and how many as bytes, until a manifest was pushed to it."""
    lines: list[dict[str, Any]] = []
    while not any(line["method"] == "PUT" and "/manifests/" in line["path"] for line in lines):
        time.sleep(0.05)  # request lines are buffered for a moment
        lines = [each for each in read_log(server, "request") if each["path"].startswith(f"/v2/{repository}/")]
    made = [line for line in lines if line["status"] == 201 and "/blobs/uploads/" in line["path"]]
    return {
        "mounted": sum(line["method"] == "POST" for line in made),
        "sent": sum(line["method"] == "PUT" for line in made),
    }


def image_manifest(
    config_type: str,
    config: bytes,
    blobs: Sequence[tuple[str, bytes]],
    media_type: str = OCI_MANIFEST,
    annotations: Mapping[str, str] | None = None,
    **fields: Any,
) -> bytes:
    """With `annotations` on every layer."""
    entries = [
        {"mediaType": kind, "digest": Digest.of(data), "size": len(data), "annotations": annotations or {}}
        for kind, data in ((config_type, config), *blobs)
    ]
    del entries[0]["annotations"]
    document = {"schemaVersion": 2, "mediaType": media_type, "config": entries[0], "layers": entries[1:], **fields}
    return json.dumps(document).encode()


def put_manifest(server: Server, repository: str, reference: str, body: bytes, media_type: str = OCI_MANIFEST) -> None:
    answer = requests.put(
        f"{server.url}/v2/{repository}/manifests/{reference}", body, headers={"Content-Type": media_type}, timeout=30
    )
    assert answer.status_code == 201, answer.text


def push_artifact(
    server: Server,
    repository: str,
    tag: str,
    config_type: str,
    blobs: Sequence[tuple[str, bytes]],
    config: bytes = b"{}",
    **fields: Any,
) -> bytes:
    """Its manifest's bytes. An empty tag: it is pushed by its digest alone."""
    for data in (config, *(data for _, data in blobs)):
        address = f"{server.url}/v2/{repository}/blobs/uploads/?digest={Digest.of(data)}"
        assert requests.post(address, data, timeout=30).status_code == 201
    body = image_manifest(config_type, config, blobs, **fields)
    put_manifest(server, repository, tag or Digest.of(body), body)
    return body
