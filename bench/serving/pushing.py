"""A fast client that pushes to any registry in the plainest way that the distribution specification allows."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from storage.oci import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST

TIMEOUT = 600


class PushRefused(Exception):
    """Another answer of the registry than expected."""


@dataclass
class Pusher:
    """One kept connection to the registry at `port`."""

    port: int
    authorization: str = ""
    """The header of that name, where it takes one."""

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def __enter__(self) -> Pusher:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def blob(self, repository: str, content: bytes, digest: str) -> float:
        """POST, then PUT of the whole blob; seconds from the first byte of the POST to the last of the PUT's answer."""
        begun = time.perf_counter()
        location = self._ask("POST", f"/v2/{repository}/blobs/uploads/", 202, b"")
        self._ask("PUT", _with_digest(location, digest), 201, content)
        return time.perf_counter() - begun

    def streamed_blob(self, repository: str, blocks: Iterable[bytes]) -> str:
        """One PATCH without a length, then PUT, as docker does; returns the digest."""
        hasher = hashlib.sha256()

        def hash_blocks() -> Iterator[bytes]:
            for block in blocks:
                hasher.update(block)
                yield block

        location = self._ask("POST", f"/v2/{repository}/blobs/uploads/", 202, b"")
        location = self._ask("PATCH", location, 202, hash_blocks())
        digest = f"sha256:{hasher.hexdigest()}"
        self._ask("PUT", _with_digest(location, digest), 201, b"")
        return digest

    def image(self, repository: str, tag: str, layers: Sequence[bytes]) -> str:
        """Push layers, a config and a manifest; returns the manifest's digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
        described = []
        for media_type, content in [(OCI_CONFIG, config.encode()), *((OCI_LAYER_GZIP, layer) for layer in layers)]:
            digest = digest_of(content)
            self.blob(repository, content, digest)
            described.append({"mediaType": media_type, "digest": digest, "size": len(content)})
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described[0], "layers": described[1:]}
        body = json.dumps(manifest).encode()
        self._ask("PUT", f"/v2/{repository}/manifests/{tag}", 201, body, OCI_MANIFEST)
        return digest_of(body)

    def _ask(
        self,
        method: str,
        path: str,
        expected: int,
        body: bytes | Iterator[bytes],
        media_type: str = "application/octet-stream",
    ) -> str:
        """Send a request; returns the answer's Location."""
        # bytes get a Content-Length; an iterator is sent in chunks
        headers = {"Authorization": self.authorization} if self.authorization else {}
        self.connection.request(method, path, body, {"Content-Type": media_type, **headers})
        answer = self.connection.getresponse()
        said = answer.read()
        if answer.status != expected:
            raise PushRefused(f"{method} {path}: {answer.status} {said[:500]!r}")
        location = urlsplit(answer.headers["Location"])
        return f"{location.path}?{location.query}" if location.query else location.path


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={quote(digest)}"
