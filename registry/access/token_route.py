"""GET and POST /token: where clients of the registry get their tokens.

distribution, "Token Authentication Specification" for GET and "OAuth2 Token Authentication" for POST. What is asked for
and not granted is left out of the token, and is no error: the request that needs it says what is missing. Whoever sends
no credentials gets a token for anybody.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from auth.permission import Permission
from auth.principal import Principal
from auth.tokens.credential import Credential
from registry.access.scopes import grant_scopes, parse_scopes, write_scopes
from registry.access.site import check_site
from registry.errors import GrantUnsupported, ServiceUnknown, TokenRequestInvalid
from registry.http.intake import read_limited
from registry.kinds.kind import KINDS
from registry.observer import PRINCIPAL
from registry.parts import PARTS, SETTINGS
from registry.rates import count_request
from registry.trail import SIGN_IN, note
from storage.errors import quote

LARGEST = 64 << 10
"""Bytes of a form."""
MOST_FIELDS = 100
FORM = "application/x-www-form-urlencoded"

Fields = Mapping[str, Sequence[str]]


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
    authentication = request.app[PARTS].authentication
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
    parts, service = request.app[PARTS], _service(request, fields)
    if offline and principal.id:
        # it lasts, and pushes out an older one: no other page makes one with a password that the browser remembers
        check_site(request)
    count_request(request, principal)
    if principal.scopes is not None:
        # it would otherwise be exchanged for one with a wider scope
        raise parts.authentication.challenge(request, message="a registry token gives no other; send a password")
    asked = parse_scopes(fields.get("scope", ()))
    scopes = grant_scopes(asked, lambda permission, name: _is_granted(request, principal, permission, name))
    credential = Credential.of(principal)
    issued = await parts.tokens.registry.issue(credential, principal.name, scopes)
    document = {
        "token": issued.text,
        "access_token": issued.text,
        "token_type": "Bearer",
        "expires_in": issued.seconds,
        "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued.at)),
        "scope": write_scopes(scopes),
    }
    client = _one(fields, "client_id")
    if principal.kind != "anonymous":
        note(request, principal, SIGN_IN, principal.name, client_id=client)
    if offline and principal.id:
        refresh_token = await parts.tokens.refresh.make(credential, service, client)
    if refresh_token:
        document["refresh_token"] = refresh_token
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=orjson.dumps(document), headers=headers)


def _is_granted(request: web.Request, principal: Principal, permission: Permission, repository: str) -> bool:
    need = request.app[KINDS].of(repository).needs(permission, repository)
    return request.app[PARTS].access.may(principal, need.permission, need.entity)


def _service(request: web.Request, fields: Fields) -> str:
    """The name of this registry, by which the client may have asked for it. Raises ServiceUnknown."""
    own = request.app[PARTS].tokens.registry.service
    asked = _one(fields, "service")
    if asked not in ("", own):
        raise ServiceUnknown(asked, own)
    return own


async def _read_form(request: web.Request) -> Fields:
    """The fields of the body. Raises TokenRequestInvalid, BodyTooLarge, BodyBroken."""
    if request.content_type != FORM:
        raise TokenRequestInvalid(f"Content-Type {quote(request.content_type)}: expected {FORM}")
    body = await read_limited(request, LARGEST, request.app[SETTINGS].stall_seconds)
    try:
        return parse_qs(body.decode(), max_num_fields=MOST_FIELDS)
    except ValueError:
        raise TokenRequestInvalid(f"the body is not a form of at most {MOST_FIELDS} fields in UTF-8") from None


def _one(fields: Fields, name: str) -> str:
    """The value of a field, or nothing. Raises TokenRequestInvalid if there are several."""
    values = fields.get(name, ())
    if len(values) > 1:
        raise TokenRequestInvalid(f"field {name} is given {len(values)} times")
    return values[0] if values else ""
