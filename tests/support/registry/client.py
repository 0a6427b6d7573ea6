"""A client that remembers what the server acknowledged, and checks it later."""

from __future__ import annotations

import contextlib
import http.client
import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from storage.digest import Digest
from tests.support.registry.pushes import MANIFEST, image_manifest
from tests.support.server import Server

QUIET = ("--base", "scratch", "--workers", "1", "--channels", "file:///nowhere")
PATIENCE = 30


@dataclass
class Client:
    """Pushes, and remembers what was acknowledged."""

    server: Server
    blobs: dict[tuple[str, Digest], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    deleted: set[tuple[str, str]] = field(default_factory=set)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def push_whole(self, repository: str, data: bytes) -> int:
        digest = Digest.of(data)
        status, *_ = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        return self._acknowledged(status, repository, data)

    def push_chunks(self, repository: str, data: bytes) -> int:
        status, headers, _ = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        half = len(data) // 2
        for chunk, method, query in ((data[:half], "PATCH", ""), (data[half:], "PUT", f"?digest={Digest.of(data)}")):
            if status == 202:
                status, headers, _ = self.ask(method, headers["Location"] + query, chunk)
        return self._acknowledged(status, repository, data)

    def mount(self, repository: str, source: str, data: bytes) -> int:
        path = f"/v2/{repository}/blobs/uploads/?mount={Digest.of(data)}&from={source}"
        return self._acknowledged(self.ask("POST", path)[0], repository, data)

    def push_manifest(self, repository: str, tag: str, body: bytes) -> int:
        status, *_ = self.ask("PUT", f"/v2/{repository}/manifests/{tag}", body, Content_Type=MANIFEST)
        if status == 201:
            self.manifests[repository, tag] = self.manifests[repository, Digest.of(body)] = body
        return status

    def delete(self, repository: str, reference: str) -> int:
        self.manifests = {
            key: body
            for key, body in self.manifests.items()
            # its fate is open until the deletion is acknowledged
            if key != (repository, reference) and (repository, Digest.of(body)) != (repository, reference)
        }
        status, *_ = self.ask("DELETE", f"/v2/{repository}/manifests/{reference}")
        if status == 202:
            self.deleted.add((repository, reference))
        return status

    def _acknowledged(self, status: int, repository: str, data: bytes) -> int:
        if status == 201:
            self.blobs[repository, Digest.of(data)] = data
        return status

    def check(self) -> None:
        """Check that what was acknowledged exists, and that what exists is whole."""
        for (repository, digest), data in self.blobs.items():
            status, _, body = self.ask("GET", f"/v2/{repository}/blobs/{digest}")
            assert (status, body == data) == (200, True), (repository, digest)
        for (repository, reference), data in self.manifests.items():
            status, _, body = self.ask("GET", f"/v2/{repository}/manifests/{reference}")
            assert (status, body == data) == (200, True), (repository, reference)
        for repository, reference in self.deleted:
            assert self.ask("GET", f"/v2/{repository}/manifests/{reference}")[0] == 404
        status, _, body = self.ask("GET", "/v2/_catalog")
        assert status == 200
        for repository in json.loads(body)["repositories"]:
            self._check_repository(repository)

    def _check_repository(self, repository: str) -> None:
        _, _, body = self.ask("GET", f"/v2/{repository}/tags/list")
        for tag in json.loads(body).get("tags", []):
            status, headers, manifest = self.ask("GET", f"/v2/{repository}/manifests/{tag}")
            assert (status, headers["Docker-Content-Digest"]) == (200, Digest.of(manifest))
            document = json.loads(manifest)
            for each in (document["config"], *document["layers"]):
                status, _, content = self.ask("GET", f"/v2/{repository}/blobs/{each['digest']}")
                assert (status, Digest.of(content)) == (200, each["digest"])


def work(client: Client, step: int) -> list[int]:
    """Do a bit of everything, with different content for each step; returns the statuses."""
    layer, other = f"layer {step} ".encode() * 40_000, f"other {step} ".encode() * 20_000
    body = image_manifest(b"{}", [layer, other])
    repository = f"team/r{step}"
    return [
        client.push_whole(repository, b"{}"),
        client.push_chunks(repository, layer),
        client.push_whole("elsewhere", other),
        client.mount(repository, "elsewhere", other),
        client.push_manifest(repository, "one", body),
        client.push_manifest(repository, "two", body),
        client.delete(repository, "two"),
        client.push_manifest(repository, "three", body.replace(b"}]", b"} ]")),
        client.delete(repository, Digest.of(body.replace(b"}]", b"} ]"))),
    ]


WORKED = [201, 201, 201, 201, 201, 201, 202, 201, 202]
