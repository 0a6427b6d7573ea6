"""A client that pushes, one request at a time."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from multidict import CIMultiDictProxy

from storage.digest import Digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

ABSENT = Digest("sha256:" + "0" * 64)
DATA = random.Random(1).randbytes(300_000)
DIGEST = Digest.of(DATA)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["errors"][0]["message"])


def descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(data), "size": len(data)}


def image_manifest(config: bytes, layers: Sequence[bytes], **fields: Any) -> bytes:
    """An OCI image manifest for blobs given by their content, with further fields."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, layer) for layer in layers],
        **fields,
    }
    return json.dumps(document).encode()


class Requests(Protocol):
    """Sends requests to a server: a `Site`, or a connection to one of a server's processes."""

    def request(
        self, method: str, path: str, **options: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]: ...


@dataclass(frozen=True)
class Pusher:
    site: Requests

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        if isinstance(options.get("data"), bytes):
            # aiohttp sends a file in pieces
            options["data"] = io.BytesIO(options["data"])
        async with self.site.request(method, path, **options) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def whole(self, repository: str, data: bytes, digest: Digest) -> Answer:
        return await self.request("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data=data)

    async def open(self, repository: str) -> str:
        """Open a session; returns its location."""
        answer = await self.request("POST", f"/v2/{repository}/blobs/uploads/")
        assert answer.status == 202
        return answer.headers["Location"]

    async def state(self, location: str) -> Answer:
        return await self.request("GET", location)

    async def chunk(self, location: str, data: bytes, start: int) -> Answer:
        headers = {"Content-Range": f"{start}-{start + len(data) - 1}"}
        return await self.request("PATCH", location, data=data, headers=headers)

    async def finish(self, location: str, digest: Digest, data: bytes = b"", start: int | None = None) -> Answer:
        headers = {"Content-Range": f"{start}-{start + len(data) - 1}"} if start is not None else {}
        return await self.request("PUT", f"{location}?digest={digest}", data=data, headers=headers)

    async def site_get(self, repository: str, digest: Digest, method: str = "GET") -> Answer:
        answer = await self.request(method, f"/v2/{repository}/blobs/{digest}")
        assert answer.status != 200 or answer.headers["Docker-Content-Digest"] == digest
        return answer

    async def read(self, repository: str, digest: Digest) -> bytes:
        answer = await self.site_get(repository, digest)
        assert answer.status == 200
        return answer.body

    async def image(self, repository: str, *layers: bytes) -> bytes:
        """Push an image's blobs; returns its manifest, which is not pushed yet."""
        for data in (b"{}", *layers):
            assert (await self.whole(repository, data, Digest.of(data))).status == 201
        return image_manifest(b"{}", layers)

    async def manifest(self, repository: str, reference: str, body: bytes, media_type: str = MANIFEST) -> Answer:
        path = f"/v2/{repository}/manifests/{reference}"
        return await self.request("PUT", path, data=body, headers={"Content-Type": media_type})

    async def get_manifest(self, repository: str, reference: str) -> Answer:
        return await self.request("GET", f"/v2/{repository}/manifests/{reference}")

    async def tags(self, repository: str, query: str = "") -> list[str]:
        document = json.loads((await self.request("GET", f"/v2/{repository}/tags/list{query}")).body)
        assert document["name"] == repository
        return list(document["tags"])

    async def paged(self, path: str, key: str) -> list[str]:
        """A whole list, read page by page."""
        found: list[str] = []
        following: str | None = path
        while following is not None:
            answer = await self.request("GET", following)
            found += json.loads(answer.body)[key]
            link = answer.headers.get("Link")
            following = link[1 : link.index(">")] if link else None
        return found


def sha512(data: bytes) -> Digest:
    return Digest(f"sha512:{hashlib.sha512(data).hexdigest()}")
