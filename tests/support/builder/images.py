"""Small images made by hand, in a blob store of their own."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from builder.platforms import oci_platform
from builder.publish import StoredImage
from storage.digest import Descriptor, Digest
from storage.errors import BlobUnknown
from tests.support.storage.stores import Blocking

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
GLIBC_2_31: Mapping[str, bytes | str] = {"bin/sh": b"#!", "lib/libc-2.31.so": b"", "lib/libc.so.6": "libc-2.31.so"}


def tar_of(files: Mapping[str, bytes | str]) -> bytes:
    """A tar of files (bytes) and symbolic links (str)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Images:
    """Makes images; `stored` prepares them for publishing."""

    blobs: Blocking
    manifests: dict[str, bytes] = field(default_factory=dict)

    def stored(self, descriptor: Descriptor) -> StoredImage:
        return StoredImage(descriptor, self.blobs, self.manifest)

    def manifest(self, digest: Digest) -> bytes:
        try:
            return self.manifests[digest]
        except KeyError:
            raise BlobUnknown(digest) from None

    def image(
        self,
        layers: Sequence[Mapping[str, bytes | str]],
        platform: str = "linux-64",
        *,
        docker: bool = False,
        config: Mapping[str, object] | None = None,
    ) -> Descriptor:
        """An image for one platform, with gzip layers; in docker's schema 2 on request."""
        tars = [tar_of(layer) for layer in layers]
        types = (
            (DOCKER + "container.image.v1+json", DOCKER + "image.rootfs.diff.tar.gzip")
            if docker
            else (OCI + "config.v1+json", OCI + "layer.v1.tar+gzip")
        )
        document = {
            **oci_platform(platform),
            "config": config or {"Env": ["COLOUR=blue"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(tar) for tar in tars]},
            "history": [{"created_by": "by hand"} for _ in tars],
        }
        return self.document(
            DOCKER + "distribution.manifest.v2+json" if docker else OCI + "manifest.v1+json",
            {
                "config": self.blob(types[0], json.dumps(document).encode()).to_json(),
                "layers": [self.blob(types[1], gzip.compress(tar, 1, mtime=0)).to_json() for tar in tars],
            },
        )

    def index(self, entries: Mapping[str, Descriptor], *, docker: bool = False) -> Descriptor:
        """An index of images by their conda platforms."""
        manifests = [
            {**descriptor.to_json(), "platform": oci_platform(platform)} for platform, descriptor in entries.items()
        ]
        media_type = DOCKER + "distribution.manifest.list.v2+json" if docker else OCI + "index.v1+json"
        return self.document(media_type, {"manifests": manifests})

    def blob(self, media_type: str, content: bytes) -> Descriptor:
        digest = Digest.of(content)
        self.blobs.put(digest, [content])
        return Descriptor(media_type, digest, len(content))

    def document(self, media_type: str, document: Mapping[str, object]) -> Descriptor:
        body = json.dumps({"schemaVersion": 2, "mediaType": media_type, **document}).encode()
        digest = Digest.of(body)
        self.manifests[digest] = body
        return Descriptor(media_type, digest, len(body))
