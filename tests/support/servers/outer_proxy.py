"""A proxy of the environment that notes what it is asked for, and answers by itself."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class OuterProxy:
    url: str
    asked: list[str] = field(default_factory=list)
    """The targets of requests, whole URLs or hosts with ports."""


@contextlib.contextmanager
def outer_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[OuterProxy]:
    """Yield a proxy that the environment names for everything; it answers 418."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def parse_request(self) -> bool:
            if super().parse_request():
                asked.append(self.path)
                self.send_response(418)
                self.send_header("Content-Length", "0")
                self.end_headers()
            self.close_connection = True
            return False

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{httpd.server_address[1]}"
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, url)
            monkeypatch.setenv(name.upper(), url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        try:
            yield OuterProxy(url, asked)
        finally:
            httpd.shutdown()
            thread.join()
