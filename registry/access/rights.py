"""What the REST API asks of whoever sends a request: that they are somebody, or may do something with an entity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiohttp import web

from auth.permission import Permission
from auth.refusal import refuse, refuse_environment
from registry.errors import Denied
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from storage.errors import ConderyError

T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    """What a request is about.

    `unknown` is the error for whoever may not know that it is there; None if the request itself says what the entity
    is, and asks to make it.
    """

    entity: str
    thing: T
    unknown: ConderyError | None = None
    read: Permission = Permission.ENVIRONMENT_READ
    """Whoever has it may know that it is there."""
    is_counted: bool = False
    """Whether what found it has counted the request, which cost much to read."""


def check_signed_in(request: web.Request) -> None:
    """Raises Unauthorized for anybody, and Denied for a token that was issued for repositories."""
    principal = request[PRINCIPAL]
    if principal.kind == "anonymous":
        message = "sign in first: at /login with a browser, else with a password or an access token"
        raise request.app[PARTS].authentication.challenge(request, message=message)
    check_unscoped(request)


def check_entity(request: web.Request, permission: Permission, entity: str, doing: str | None = None) -> None:
    """Raises Denied, and Unauthorized where signing in may help. The same whether there is such an entity or not.

    `doing` replaces the usual words for the permission.
    """
    principal = request[PRINCIPAL]
    check_unscoped(request)
    if request.app[PARTS].access.may(principal, permission, entity):
        return
    refusal = (
        refuse_environment(principal, permission, entity)
        if doing is None
        else refuse(principal, permission, entity, doing)
    )
    if principal.kind == "anonymous" and "Authorization" not in request.headers:
        raise request.app[PARTS].authentication.challenge(request, message=f"{refusal}; sign in")
    raise Denied(refusal)


def check_found(request: web.Request, permission: Permission, found: Found[T]) -> None:
    """Raises Denied to whoever may read the entity, but lacks `permission`, and to others as if it was not there."""
    principal, access = request[PRINCIPAL], request.app[PARTS].access
    if found.unknown is None:
        check_entity(request, permission, found.entity)
        return
    if access.may(principal, permission, found.entity):
        return
    if permission is found.read or not access.may(principal, found.read, found.entity):
        raise unknown_to(request, found.unknown)
    check_entity(request, permission, found.entity)


def unknown_to(request: web.Request, error: ConderyError) -> ConderyError:
    """The error for what is not there, or is as if it was not: the same for both.

    Who is not signed in and does not see everything is asked to sign in.
    """
    principal, parts = request[PRINCIPAL], request.app[PARTS]
    is_anybody = principal.kind == "anonymous" and "Authorization" not in request.headers
    if is_anybody and not parts.access.may_everywhere(principal, Permission.ENVIRONMENT_READ):
        message = f"{error}, or nobody may see it without signing in; sign in"
        return parts.authentication.challenge(request, message=message)
    return error


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


async def may_still(request: web.Request, permission: Permission, entity: str) -> bool:
    """Whether the sender of a request that is being answered has the grant now, with the credentials of that time."""
    parts = request.app[PARTS]
    try:
        principal = parts.authentication.recall(request) or await parts.authentication.identify(request)
    except ConderyError:
        return False
    return parts.access.may(principal, permission, entity)


def check_within(request: web.Request, permission: Permission, namespace: str) -> None:
    """Raises as `check_entity` to whoever has been granted `permission` on nothing in the namespace.

    Before the body says what it is about: what is set for a namespace says something of it to whoever gets that far.
    """
    if not request.app[PARTS].access.may_within(request[PRINCIPAL], permission, namespace):
        check_entity(request, permission, f"{namespace}/*")


def check_unscoped(request: web.Request) -> None:
    """Raises Denied for a registry token: it is for repositories, and says nothing of whose it is elsewhere."""
    if request[PRINCIPAL].scopes is not None:
        raise Denied("this token was issued for repositories alone; use an access token or a password here")
