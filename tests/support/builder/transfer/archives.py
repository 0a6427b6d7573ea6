"""Archives that are changed as whoever means harm would change them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.canonical import canonical_json

Change = Callable[[Any], None]


def blob_path(layout: Path, digest: str) -> Path:
    algorithm, _, digits = digest.partition(":")
    return layout / "blobs" / algorithm / digits


def put_blob(layout: Path, content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    blob_path(layout, digest).write_bytes(content)
    return {"digest": digest, "size": len(content)}


def read_artifact(layout: Path) -> dict[str, Any]:
    index = json.loads((layout / "index.json").read_bytes())
    return dict(json.loads(blob_path(layout, index["manifests"][0]["digest"]).read_bytes()))


def read_document(layout: Path) -> dict[str, Any]:
    return dict(json.loads(blob_path(layout, read_artifact(layout)["layers"][0]["digest"]).read_bytes()))


def write_document(layout: Path, content: bytes) -> None:
    """Replace the document, with digests that are right."""
    artifact = read_artifact(layout)
    artifact["layers"][0] |= put_blob(layout, content)
    write_artifact(layout, artifact)


def write_artifact(layout: Path, artifact: dict[str, Any]) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0] |= put_blob(layout, canonical_json(artifact))
    (layout / "index.json").write_bytes(json.dumps(index).encode())


def change_document(layout: Path, change: Change) -> None:
    document = read_document(layout)
    change(document)
    write_document(layout, canonical_json(document))


def change_specification(layout: Path, change: Change) -> None:
    def apply(document: Any) -> None:
        specification = json.loads(blob_path(layout, document["specifications"][0]["digest"]).read_bytes())
        change(specification)
        document["specifications"][0] |= put_blob(layout, canonical_json(specification))

    change_document(layout, apply)


def change_lock(layout: Path, change: Change, *, key: Callable[[Any], str] | None = None) -> None:
    """Change the first build's lock; `key` makes the key that it is given, which else stays the old one."""

    def apply(document: Any) -> None:
        old = document["builds"][0]["lock"]
        lock = json.loads(blob_path(layout, document["locks"][old]["digest"]).read_bytes())
        change(lock)
        described = document["locks"][old] | put_blob(layout, canonical_json(lock))
        if key is None:
            document["locks"][old] = described
            return
        new = key(lock)
        document["locks"][new] = described
        document["builds"][0]["lock"] = new

    change_document(layout, apply)


def pack(layout: Path, target: Path, extra: Callable[[tarfile.TarFile], None] = lambda _: None) -> Path:
    """A tar of a layout, as somebody's own program would write it, with more in it."""
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(layout, ".")
        extra(tar)
    return target


def add_file(
    tar: tarfile.TarFile, name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content) if kind == tarfile.REGTYPE else 0, kind, link
    tar.addfile(member, io.BytesIO(content))
