"""Access tokens of whoever asks: list them, make one, revoke one.

One that is made is answered once. conda-store's clients send other fields and get its form of a token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from aiohttp import web

from auth.accounts.names import is_name
from auth.errors import GrantExceeded
from auth.late import import_late
from auth.tokens.access_tokens import AccessToken
from auth.tokens.api_tokens import write_api_token
from auth.tokens.errors import AccessTokenInvalid, AccessTokenUnknown
from registry.api.documents import answer_data, answer_list, answer_message, read_object, read_text, read_texts
from registry.api.permissions import find_primary_namespace
from registry.api.schemas import TokenSort
from registry.errors import BodyInvalid
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from registry.trail import actor_of
from storage.errors import quote

OURS = ("name", "bindings", "expires")
CONDA_STORES = ("primary_namespace", "expiration", "exp", "role_bindings")
CURRENT = "current"
"""Stands for the id of the token that was presented: who logs out knows no other name of it."""
SORTS = get_args(TokenSort)
LONGEST = 7500
"""Characters of a token: no header may be longer than 8190 bytes."""

_ID = re.compile(r"[0-9a-f]{32}")
"""As `auth.tokens.secrets_text.new_id` makes them."""


async def list_tokens(request: web.Request) -> web.StreamResponse:
    found = await request.app[PARTS].tokens.access.list_for(request[PRINCIPAL])
    return answer_list(request, [each.to_json() for each in found], SORTS)


async def make_token(request: web.Request) -> web.StreamResponse:
    document = await read_object(request, (*OURS, *CONDA_STORES))
    # an empty one is what conda-store's clients send for a token without limits
    if not document or not document.keys() <= set(OURS):
        return await _make_conda_stores(request, document)
    name = read_text(document, "name")
    if name is None:
        raise BodyInvalid("name", "say what the token is for, such as a machine's name")
    made = await request.app[PARTS].tokens.access.make(
        request[PRINCIPAL],
        name,
        read_texts(document, "bindings"),
        _read_time(document, "expires"),
        by=actor_of(request, request[PRINCIPAL]),
        # what is made with a token writes where that does
        primary_namespace=await request.app[PARTS].tokens.access.find_primary_namespace(request[PRINCIPAL]),
    )
    return answer_data({**made.token.to_json(), "token": made.text})


async def revoke_token(request: web.Request) -> web.StreamResponse:
    principal, token = request[PRINCIPAL], request.match_info["token"]
    if token == CURRENT:
        token = principal.token
    if not _ID.fullmatch(token):  # a database may refuse to search for it
        raise AccessTokenUnknown(token)
    await request.app[PARTS].tokens.access.revoke_for(principal, token, by=actor_of(request, principal))
    return answer_message("the token is revoked")


async def _make_conda_stores(request: web.Request, document: Mapping[str, Any]) -> web.StreamResponse:
    if mixed := document.keys() & set(OURS):
        raise BodyInvalid(min(mixed), f"is no field beside {', '.join(CONDA_STORES)}")
    principal, tokens = request[PRINCIPAL], request.app[PARTS].tokens
    namespace = read_text(document, "primary_namespace")
    if namespace is None:
        namespace = await find_primary_namespace(request)
    elif not is_name(namespace):
        raise BodyInvalid("primary_namespace", f"{quote(namespace)} is no name of a namespace")
    roles = _read_role_bindings(document)
    expires = _read_time(document, "expiration") or _read_time(document, "exp")
    key = await tokens.keys.current()
    await import_late("jwt")

    def write(token: AccessToken) -> str:
        assert token.expires is not None, "every new token ends"
        text = write_api_token(key, token.id, namespace, roles or {}, token.created, token.expires)
        if len(text) > LONGEST:
            raise AccessTokenInvalid("so many role bindings make no token that fits into a request's header")
        return text

    bindings = None if roles is None else [f"{entity}={role}" for entity, names in roles.items() for role in names]
    by = actor_of(request, principal)
    try:
        made = await tokens.access.make(
            principal, "conda-store", bindings, expires, by=by, primary_namespace=namespace, write=write
        )
    except GrantExceeded as error:
        # conda-store's command line shows what a 400 says, and breaks on any other refusal
        raise AccessTokenInvalid(str(error)) from None
    return answer_data({"token": made.text})


def _read_role_bindings(document: Mapping[str, Any]) -> Mapping[str, Sequence[str]] | None:
    """Roles by entity. Raises BodyInvalid."""
    value = document.get("role_bindings")
    # conda-store's own client sends an empty one for all that its user may
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        raise BodyInvalid("role_bindings", "expected an object of lists of roles by entity")
    roles: dict[str, Sequence[str]] = {}
    for entity in value:
        names = read_texts(value, entity)
        if not names:
            raise BodyInvalid("role_bindings", f"{quote(entity)} has no roles")
        roles[entity] = names
    return roles


def _read_time(document: Mapping[str, Any], name: str) -> float | None:
    """UNIX seconds, of a number or of ISO 8601; without a time zone it is UTC. Raises BodyInvalid."""
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        time = datetime.fromisoformat(str(value))
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise BodyInvalid(name, "expected a time such as 2027-01-31T12:00:00Z, or seconds since 1970") from None
