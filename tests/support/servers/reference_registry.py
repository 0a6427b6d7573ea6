"""Debian's docker-registry, the reference implementation, as a process: open, with a password, or with tokens."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

USER, PASSWORD = "reader", "secret-word"
# bcrypt, the only kind that it accepts
_HTPASSWD = "reader:$2y$05$8CZx2bqyAXfPzHV7AhZYpO.gc7A7Kep48yG.BbaDkXdKewrN5auoi\n"


@dataclass
class TokenServer:
    """Records requests to a token server."""

    scopes: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    host: str = ""
    """Its address: another port than the registry's, so `insecure` must name it."""


@contextlib.contextmanager
def reference_registry(directory: Path, auth: str = "") -> Iterator[str]:
    """Yield its `host:port`; `auth` is a section of its configuration in YAML."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    directory.mkdir(parents=True)
    port = free_port()
    config = directory / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/store}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{auth}"
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait_for(port, process, directory / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def password_auth(directory: Path) -> str:
    (directory / "htpasswd").write_text(_HTPASSWD)
    return f"auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}\n"


@contextlib.contextmanager
def token_auth(directory: Path, lifetime: float = 60) -> Iterator[tuple[str, TokenServer]]:
    """A token server that grants exactly the requested scope, and the registry's configuration to trust it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=tokens -days 2 -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    server = TokenServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scopes = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("scope", [])
            server.scopes.extend(scopes)
            server.logins.append(self.headers.get("Authorization", ""))
            body = json.dumps({"token": _token(key, certificate, scopes, lifetime)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        server.host = f"127.0.0.1:{httpd.server_port}"
        realm = f"http://{server.host}/token"
        yield (
            f"auth: {{token: {{realm: '{realm}', service: test, issuer: tests, rootcertbundle: {certificate}}}}}\n",
            server,
        )
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def _token(key: Path, certificate: Path, scopes: list[str], lifetime: float) -> str:
    """A JWT by distribution's token specification, signed with RS256."""
    der = base64.b64encode(
        subprocess.run(
            ["openssl", "x509", "-in", str(certificate), "-outform", "DER"], check=True, capture_output=True
        ).stdout
    ).decode()
    now = int(time.time())
    access = [
        {"type": kind, "name": name, "actions": actions.split(",")}
        for kind, name, actions in (scope.split(":") for scope in scopes)
    ]
    claims = {"iss": "tests", "sub": "", "aud": "test", "nbf": now - 60, "exp": now + lifetime, "access": access}
    header = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
    signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
    signature = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(key)], input=signed.encode(), check=True, capture_output=True
    ).stdout
    return f"{signed}.{_encoded(signature)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
