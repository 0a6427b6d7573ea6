"""Which web pages may read the registry from a browser (Fetch standard, "CORS protocol").

Pages read and never write: a page may use GET and HEAD, with a token if it has one. Cookies play no part.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from aiohttp import web

ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
"""As browsers send it: scheme, host and any non-default port, in lower case, without a path."""

READ = ("GET", "HEAD")
SENT = "Accept, Authorization, Range, If-None-Match, If-Range, X-Request-ID"
SHOWN = (
    "Accept-Ranges, Content-Length, Content-Range, Docker-Content-Digest, Docker-Distribution-API-Version, ETag, Link, "
    "Location, OCI-Filters-Applied, OCI-Subject, Retry-After, Warning, WWW-Authenticate, X-Request-ID"
)
MAX_AGE = 600
"""Seconds for which a browser need not ask again."""


class Cors:
    """The rule for pages from exactly these origins."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)

    def is_preflight(self, request: web.Request) -> bool:
        """Whether a browser asks in advance what a page of an allowed origin may do."""
        return (
            request.method == "OPTIONS"
            and request.headers.get("Origin") in self._origins
            and "Access-Control-Request-Method" in request.headers
        )

    def allow(self) -> web.Response:
        """The answer to a preflight; `complete` adds the origin."""
        headers = {
            "Access-Control-Allow-Methods": ", ".join(READ),
            "Access-Control-Allow-Headers": SENT,
            "Access-Control-Max-Age": str(MAX_AGE),
        }
        return web.Response(status=204, headers=headers)

    def complete(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let the page read the answer if its origin is allowed."""
        if not self._origins:
            return
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin in self._origins and (request.method in READ or self.is_preflight(request)):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = SHOWN
