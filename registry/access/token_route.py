"""GET and POST /token: where clients of the registry get their tokens.

distribution, "Token Authentication Specification" for GET and "OAuth2 Token Authentication" for POST. What is asked for
and not granted is left out of the token, and is no error: the request that needs it says what is missing. Whoever sends
no credentials gets a token for anybody.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from auth.principal import Principal
from auth.tokens.credential import Credential
from auth.tokens.refresh_tokens import RefreshTokens
from auth.tokens.registry_tokens import RegistryTokens
from registry.access.authentication import Authentication
from registry.access.scopes import grant_scopes, parse_scopes, write_scopes
from registry.errors import GrantUnsupported, ServiceUnknown, TokenRequestInvalid
from registry.http.intake import read_limited
from registry.kinds.kind import KINDS
from registry.observer import PRINCIPAL
from registry.parts import PARTS, SETTINGS

LARGEST = 64 << 10
"""Bytes of a form."""
MOST_FIELDS = 100
FORM = "application/x-www-form-urlencoded"

Fields = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class TokenIssuer:
    """What the token endpoint is made over."""

    authentication: Authentication
    registry_tokens: RegistryTokens
    refresh_tokens: RefreshTokens


ISSUER = web.AppKey("token_issuer", TokenIssuer)


async def get_token(request: web.Request) -> web.StreamResponse:
    """For who sent the request: by its header Authorization, which was read before."""
    fields = {name: request.query.getall(name) for name in request.query}
    offline = _one(fields, "offline_token").lower() in ("true", "1")
    return await _answer(request, fields, request[PRINCIPAL], offline=offline)


async def post_token(request: web.Request) -> web.StreamResponse:
    """For who shows a password or a refresh token in a form, or a header as for GET."""
    fields = await _read_form(request)
    offline = _one(fields, "access_type") == "offline"
    grant = _one(fields, "grant_type")
    authentication = request.app[ISSUER].authentication
    match grant:
        case "password":
            name, password = _one(fields, "username"), _one(fields, "password")
            principal = await authentication.identify_login(request, name, password)
        case "refresh_token":
            text = _one(fields, "refresh_token")
            principal = await authentication.identify_refresh(request, text, _service(request, fields))
            request[PRINCIPAL] = principal
            return await _answer(request, fields, principal, refresh_token=text)
        case "" if "Authorization" in request.headers:
            principal = request[PRINCIPAL]
        case _:
            raise GrantUnsupported(grant)
    request[PRINCIPAL] = principal
    return await _answer(request, fields, principal, offline=offline)


async def _answer(
    request: web.Request, fields: Fields, principal: Principal, *, offline: bool = False, refresh_token: str = ""
) -> web.Response:
    issuer, service = request.app[ISSUER], _service(request, fields)
    asked = parse_scopes(fields.get("scope", ()))
    scopes = grant_scopes(asked, lambda permission, name: _is_granted(request, principal, permission, name))
    credential = Credential(principal.id, principal.epoch, principal.token)
    issued = await issuer.registry_tokens.issue(credential, principal.name, scopes)
    document = {
        "token": issued.text,
        "access_token": issued.text,
        "token_type": "Bearer",
        "expires_in": issued.seconds,
        "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued.at)),
        "scope": write_scopes(scopes),
    }
    if offline and principal.id:
        client = _one(fields, "client_id")
        refresh_token = await issuer.refresh_tokens.make(credential, service, client)
    if refresh_token:
        document["refresh_token"] = refresh_token
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=orjson.dumps(document), headers=headers)
