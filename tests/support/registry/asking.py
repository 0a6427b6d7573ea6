"""Requests to a server process by a client that gives up after some seconds of silence."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from storage.oci import OCI_INDEX
from tests.support.server import Server

PATIENCE = 60


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    server: Server,
    path: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
) -> Answer:
    """Send a request on its own connection; raises TimeoutError after `timeout` silent seconds."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=timeout)
    try:
        connection.request(method, path, headers={"Accept": OCI_INDEX, **(headers or {})})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def send(server: Server, path: str, method: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """Send a request with a body."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def manifest_path(items: str, tag: str = "latest") -> str:
    """The path of the image that the default server makes of `items`."""
    return f"/v2/conda-store-dynamic/{items}/manifests/{tag}"
