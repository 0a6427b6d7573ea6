"""Which web pages may read the registry from a browser (Fetch standard, "CORS protocol").

Pages read and never write: a page may use GET and HEAD, with a token if it has one. Cookies play no part. Pages that
are trusted as this server's own, such as a JupyterLab with conda-store's extension, may use the REST API besides, in
the name of who is signed in.
"""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

READ = ("GET", "HEAD")
USED = (*READ, "POST", "PUT", "DELETE")
"""What trusted pages send to the REST API."""
SENT = "Accept, Authorization, Range, If-None-Match, If-Range, X-Request-ID"
SHOWN = (
    "Accept-Ranges, Content-Length, Content-Range, Docker-Content-Digest, Docker-Distribution-API-Version, ETag, Link, "
    "Location, OCI-Filters-Applied, OCI-Subject, Retry-After, Warning, WWW-Authenticate, X-Request-ID"
)
MAX_AGE = 600
"""Seconds for which a browser need not ask again."""


class Cors:
    """The rule for pages from exactly these origins."""

    def __init__(self, origins: Collection[str], trusted: Collection[str] = (), prefix: str = "") -> None:
        """Pages of `trusted` origins may use what is below `/api/`, there and below `prefix`, and sign out."""
        self._origins = frozenset(origins)
        self._trusted = frozenset(trusted)
        self._used = tuple(f"{each}{path}" for each in {"", prefix} for path in ("/api/", "/logout"))

    def trusts(self, request: web.Request) -> bool:
        """Whether a page that is trusted has sent the request, and it is for the REST API."""
        if not self._trusted:
            return False
        origins = request.headers.getall("Origin", ())
        return len(origins) == 1 and origins[0] in self._trusted and request.path.startswith(self._used)

    def is_preflight(self, request: web.Request) -> bool:
        """Whether a browser asks in advance what a page of an allowed origin may do."""
        return (
            request.method == "OPTIONS"
            and (request.headers.get("Origin") in self._origins or self.trusts(request))
            and "Access-Control-Request-Method" in request.headers
        )

    def allow(self, request: web.Request) -> web.Response:
        """The answer to a preflight; `complete` adds the origin."""
        trusted = self.trusts(request)
        headers = {
            "Access-Control-Allow-Methods": ", ".join(USED if trusted else READ),
            "Access-Control-Allow-Headers": f"{SENT}, Content-Type" if trusted else SENT,
            "Access-Control-Max-Age": str(MAX_AGE),
        }
        return web.Response(status=204, headers=headers)

    def complete(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let the page read the answer if its origin is allowed."""
        if not self._origins and not self._trusted:
            return
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin", "")
        trusted = self.trusts(request)
        reads = origin in self._origins and (request.method in READ or self.is_preflight(request))
        if trusted or reads:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = SHOWN
        if trusted:
            # without it a page that includes credentials, as conda-store's interface does, may read no answer
            response.headers["Access-Control-Allow-Credentials"] = "true"
