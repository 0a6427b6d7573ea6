"""Small images to push, as files that clients read: OCI image layouts and docker's archives."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storage.digest import Digest
from storage.oci import OCI_INDEX, OCI_MANIFEST

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def tar(files: Mapping[str, bytes]) -> bytes:
    """The same files give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def config(architecture: str, layers: Sequence[bytes]) -> bytes:
    """Of an image of these tars, without compression."""
    document = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/hello"], "Labels": {"made": "by hand"}},
        "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer) for layer in layers]},
        "history": [{"created": "2026-01-31T00:00:00Z", "created_by": "by hand"} for _ in layers],
    }
    return json.dumps(document).encode()


def write_archive(path: Path, name: str, layers: Sequence[bytes], architecture: str = "amd64") -> None:
    """What `docker save` writes of an image called `name` (repository:tag) with these tars as layers."""
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    files = {"manifest.json": json.dumps(manifest).encode(), "config.json": config(architecture, layers)}
    path.write_bytes(tar(files | dict(zip(names, layers, strict=True))))


def write_layout(directory: Path, tag: str, platforms: Mapping[str, Sequence[bytes]]) -> dict[str, Any]:
    """An OCI image layout in which `tag` is an index of images by their architecture; gives the index's descriptor."""
    (directory / "blobs" / "sha256").mkdir(parents=True)

    def blob(media_type: str, content: bytes) -> dict[str, Any]:
        digest = Digest.of(content)
        (directory / "blobs" / "sha256" / digest.hex).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def document(media_type: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        return blob(media_type, json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode())

    manifests = []
    for architecture, layers in platforms.items():
        image = document(
            OCI_MANIFEST,
            {
                "config": blob(CONFIG, config(architecture, layers)),
                "layers": [blob(LAYER, gzip.compress(layer, 1, mtime=0)) for layer in layers],
            },
        )
        manifests.append({**image, "platform": {"os": "linux", "architecture": architecture}})
    index = document(OCI_INDEX, {"manifests": manifests})
    named = {**index, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return index
