"""GET and POST /token: where clients of the registry get their tokens.

distribution, "Token Authentication Specification" for GET and "OAuth2 Token Authentication" for POST. What is asked for
and not granted is left out of the token, and is no error: the request that needs it says what is missing. Whoever sends
no credentials gets a token for anybody.
"""

from __future__ import annotations

import time

import orjson
from aiohttp import web

from auth.audit.floods import SIGN_IN
from auth.permission import Permission
from auth.principal import Principal
from auth.sign_in.errors import DeviceDenied, DeviceExpired
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from registry.access.oauth_form import Fields, read_form, read_one
from registry.access.scopes import grant_scopes, parse_scopes, write_scopes
from registry.access.site import check_site
from registry.answers import UNSTORED_JSON
from registry.errors import Denied, GrantUnsupported, ServiceUnknown, TokenRequestInvalid
from registry.kinds.kind import KINDS
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from registry.rates import count_request
from registry.trail import actor_of, note
from storage.text import redact

LONGEST_CLIENT = 255
"""Characters of a client's name of itself."""
REFRESH_MADE = "refresh-token.create"
"""An action of the audit log."""
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


async def get_token(request: web.Request) -> web.StreamResponse:
    """For who sent the request: by its header Authorization, which was read before."""
    fields = {name: request.query.getall(name) for name in request.query}
    offline = read_one(fields, "offline_token").lower() in ("true", "1")
    if offline and request[PRINCIPAL].id and "Authorization" not in request.headers:
        # a browser or a proxy says who this is with whatever a page asks for
        raise Denied("a refresh token is given for a password or an access token alone, which this request has not")
    return await _answer(request, fields, request[PRINCIPAL], offline=offline)


async def post_token(request: web.Request) -> web.StreamResponse:
    """For who shows a password or a refresh token in a form, or a header as for GET."""
    fields = await read_form(request)
    offline = read_one(fields, "access_type") == "offline"
    grant = read_one(fields, "grant_type")
    authentication = request.app[PARTS].authentication
    match grant:
        case "password":
            name, password = read_one(fields, "username"), read_one(fields, "password")
            principal = await authentication.identify_login(request, name, password)
        case "refresh_token":
            text = read_one(fields, "refresh_token")
            principal = await authentication.identify_refresh(request, text, _service(request, fields))
            request[PRINCIPAL] = principal
            return await _answer(request, fields, principal, refresh_token=text)
        case _ if grant == DEVICE_GRANT:
            return await _answer_device(request, fields)
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
    client = _read_client(fields)
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
    if principal.kind != "anonymous":
        note(request, principal, SIGN_IN, principal.name, client_id=client)
    if offline and principal.id:
        refresh_token = await parts.tokens.refresh.make(credential, service, client)
        note(request, principal, REFRESH_MADE, principal.name, client_id=client)
    if refresh_token:
        document["refresh_token"] = refresh_token
    return web.Response(body=orjson.dumps(document), headers=UNSTORED_JSON)


async def _answer_device(request: web.Request, fields: Fields) -> web.Response:
    """An access token for a device that a person has allowed to sign in (RFC 8628, section 3.4).

    Raises DeviceWaits, AccessTokenInvalid.
    """
    parts, code, client = request.app[PARTS], read_one(fields, "device_code"), _read_client(fields)
    if not code:
        raise TokenRequestInvalid("device_code is missing")
    if parts.devices is None:
        raise DeviceExpired
    device = await parts.devices.poll(code)
    assert device.credential is not None, "it is allowed"
    try:
        principal = request[PRINCIPAL] = await parts.authentication.recognise(device.credential)
    except CredentialsInvalid:
        # everything that was signed in has ended since
        raise DeviceDenied from None
    expires = None if device.lifetime is None else time.time() + device.lifetime
    name = device.name or "a device"
    made = await parts.tokens.access.make(principal, name, None, expires, by=actor_of(request, principal))
    note(request, principal, SIGN_IN, principal.name, client_id=client, id=made.token.id)
    document: dict[str, object] = {"access_token": made.text, "token_type": "Bearer", "account": principal.name}
    if made.token.expires is not None:
        document["expires_in"] = int(made.token.expires - time.time())
    return web.Response(body=orjson.dumps(document), headers=UNSTORED_JSON)


def _is_granted(request: web.Request, principal: Principal, permission: Permission, repository: str) -> bool:
    need = request.app[KINDS].of(repository).needs(permission, repository)
    return request.app[PARTS].access.may(principal, need.permission, need.entity)


def _read_client(fields: Fields) -> str:
    """What the client calls itself. Raises TokenRequestInvalid."""
    client = read_one(fields, "client_id")
    if len(client) > LONGEST_CLIENT or not client.isprintable():
        raise TokenRequestInvalid(f"client_id: expected at most {LONGEST_CLIENT} printable characters")
    return redact(client)


def _service(request: web.Request, fields: Fields) -> str:
    """The name of this registry, by which the client may have asked for it. Raises ServiceUnknown."""
    own = request.app[PARTS].tokens.registry.service
    asked = read_one(fields, "service")
    if asked not in ("", own):
        raise ServiceUnknown(asked, own)
    return own
