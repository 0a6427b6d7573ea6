"""A conda channel in a registry of OCI images, over TLS, for who has a login.

Each index is the one layer of an image `CHANNEL/SUBDIR/repodata.json:latest`, and each package that of an image
`CHANNEL/SUBDIR/NAME:VERSION-BUILD`, as the mirror of conda-forge at ghcr.io has it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from tests.support.servers.certificates import Authority

HOST = "127.0.0.1"
PORT = 443
"""What rattler reads, whatever the address of a channel says."""
USER = "robot"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYERS = {
    ".json": "application/vnd.conda.repodata.v1+json",
    ".conda": "application/vnd.conda.package.v2",
    ".bz2": "application/vnd.conda.package.v1",
}


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class OciChannel:
    """The channel in `directory`, called `channel`; `password` is that of USER."""

    directory: Path
    password: str
    scheme: Literal["Basic", "Bearer"]
    """What is asked for: the login with each request, or a token that is given for it."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Paths, and the header Authorization."""
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def login(self) -> str:
        return f"Basic {base64.b64encode(f'{USER}:{self.password}'.encode()).decode()}"

    def answer(self, path: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append((path, authorization))
        if path.startswith("/token"):
            token = json.dumps({"token": "given"}).encode()
            return (200, {}, token) if authorization == self.login else (401, {}, b"")
        if authorization != ("Bearer given" if self.scheme == "Bearer" else self.login):
            realm = f'Bearer realm="https://{HOST}/token",service="x"' if self.scheme == "Bearer" else 'Basic realm="x"'
            return 401, {"WWW-Authenticate": realm}, b""
        body = self._find(path.removeprefix("/v2/").split("/"))
        return (404, {}, b"") if body is None else (200, {"Content-Type": MANIFEST}, body)

    def _find(self, parts: list[str]) -> bytes | None:
        match parts:
            case [*_, "blobs", digest]:
                return self.blobs.get(digest)
            case ["channel", subdir, "repodata.json", "manifests", "latest"]:
                return self._describe(self.directory / subdir / "repodata.json")
            case ["channel", subdir, name, "manifests", tag]:
                found = sorted((self.directory / subdir).glob(f"{name}-{tag}.*"))
                return self._describe(found[0]) if found else None
        return None

    def _describe(self, file: Path) -> bytes | None:
        """The manifest of the image with `file`."""
        if not file.exists():
            return None
        content = file.read_bytes()
        self.blobs[digest_of(content)] = content
        layer = {"mediaType": LAYERS[file.suffix], "digest": digest_of(content), "size": len(content)}
        config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}
        return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}).encode()


@contextlib.contextmanager
def serving_oci(channel: OciChannel, directory: Path) -> Iterator[Path]:
    """Serve the channel; yields the file of the authority that has signed its certificate. Raises OSError where this
    account may not listen on PORT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = channel.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    authority = Authority()
    issued = authority.issue()
    (directory / "pair.pem").write_bytes(issued.certificate + issued.key)
    (directory / "authority.pem").write_bytes(authority.certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "pair.pem")
    with ThreadingHTTPServer((HOST, PORT), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield directory / "authority.pem"
        finally:
            server.shutdown()
            thread.join()
