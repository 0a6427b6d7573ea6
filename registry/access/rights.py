"""What the REST API asks of whoever sends a request: that they are somebody, or may do something with an entity."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from auth.permission import Permission
from auth.refusal import refuse
from registry.errors import Denied
from registry.observer import PRINCIPAL
from registry.parts import PARTS


def check_signed_in(request: web.Request) -> None:
    """Raises Unauthorized for anybody, and Denied for a token that was issued for repositories."""
    principal = request[PRINCIPAL]
    if principal.kind == "anonymous":
        message = "sign in first: at /login with a browser, else with a password or an access token"
        raise request.app[PARTS].authentication.challenge(request, message=message)
    check_unscoped(request)


def check_entity(request: web.Request, permission: Permission, entity: str) -> None:
    """Raises Denied, and Unauthorized where signing in may help. The same whether there is such an entity or not."""
    principal = request[PRINCIPAL]
    check_unscoped(request)
    if request.app[PARTS].access.may(principal, permission, entity):
        return
    refusal = refuse(principal, permission, entity)
    if principal.kind == "anonymous" and "Authorization" not in request.headers:
        raise request.app[PARTS].authentication.challenge(request, message=f"{refusal}; sign in")
    raise Denied(refusal)


def check_anywhere(request: web.Request, permissions: Sequence[Permission], doing: str) -> None:
    """Raises Denied to whoever has been granted none of `permissions` on anything, and Unauthorized likewise."""
    principal, access = request[PRINCIPAL], request.app[PARTS].access
    for permission in permissions:
        places = access.places(principal, permission)
        if places.names or places.beginnings:
            return
    needed = " or ".join(permissions)
    if principal.kind == "anonymous" and "Authorization" not in request.headers:
        message = f"whoever is not signed in may not {doing} ({needed}); sign in"
        raise request.app[PARTS].authentication.challenge(request, message=message)
    raise Denied(f"to {doing} you need {needed} on something; ask an administrator for the role viewer anywhere")


def check_unscoped(request: web.Request) -> None:
    """Raises Denied for a registry token: it is for repositories, and says nothing of whose it is elsewhere."""
    if request[PRINCIPAL].scopes is not None:
        raise Denied("this token was issued for repositories alone; use an access token or a password here")
