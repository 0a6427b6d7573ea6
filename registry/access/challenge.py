"""How to sign in: the answer to who did not and has to, or did in vain."""

from __future__ import annotations

from aiohttp import web

from auth.settings import AccessSettings
from registry.errors import Unauthorized
from registry.http.settings import HttpSettings
from registry.parts import PROXIES

SERVICE = "condery"
"""What this registry is called in its tokens, where nobody gave it a name."""

PING = frozenset({"/v2", "/v2/"})
"""Where clients ask how to sign in, before anything else."""


def service_of(access: AccessSettings, http: HttpSettings) -> str:
    """What this registry is called in its tokens: one name, by whatever address a request comes."""
    if access.service_name is not None:
        return access.service_name
    return http.public_url.partition("://")[2] if http.public_url is not None else SERVICE


class Challenger:
    """Says where tokens are to be had: at `realm_path` below the address by which the client reached this server."""

    def __init__(self, realm_path: str, service: str) -> None:
        self._realm_path = realm_path
        self._service = service

    def challenge(self, request: web.Request, scope: str = "", error: str = "", message: str = "") -> Unauthorized:
        base = request.app[PROXIES].base_url(request)
        # a client that named no host cannot be told an address; it may still send a password
        realm = f"{base}{self._realm_path}" if base is not None else ""
        # docker meets every challenge that it gets there, one after another: with a token, and then with a password,
        # which it has not if it keeps a refresh token or has not signed in (distribution, session.go: ModifyRequest)
        return Unauthorized(realm, self._service, scope, error, message, tokens_only=request.path in PING)
