"""GET permission/: who the sender is, and may do what (conda-store's)."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from aiohttp import web

from auth.binding import Binding
from auth.grants import Grants
from auth.permission import Permission
from auth.principal import Principal
from auth.role import BUILT_IN
from registry.api.documents import answer_data
from registry.observer import PRINCIPAL
from registry.parts import PARTS

PRIMARY = "default"
"""The namespace of whoever has none of their own."""


async def get_permission(request: web.Request) -> web.StreamResponse:
    principal = request[PRINCIPAL]
    granted = read_grants(principal)
    expires = await request.app[PARTS].tokens.access.find_expiry(principal)
    return answer_data(
        {
            "authenticated": principal.kind != "anonymous",
            "primary_namespace": await find_primary_namespace(request),
            "entity_permissions": {entity: sorted(permissions) for entity, permissions in granted.items()},
            "entity_roles": {entity: roles_of(permissions) for entity, permissions in granted.items()},
            "expiration": None if expires is None else datetime.fromtimestamp(expires, UTC).isoformat(),
        }
    )


async def find_primary_namespace(request: web.Request) -> str:
    """The namespace of a sender who names none: the token's, else the person's own."""
    principal = request[PRINCIPAL]
    if (found := await request.app[PARTS].tokens.access.find_primary_namespace(principal)) is not None:
        return found
    return principal.name if principal.kind == "person" else PRIMARY


def read_grants(principal: Principal) -> Mapping[str, frozenset[Permission]]:
    """What `principal` may do, by pattern; each has exactly one slash, as conda-store's clients expect."""
    bindings: Iterable[tuple[Binding, frozenset[Permission]]] = (
        (each, each.role.permissions) for each in principal.grants.bindings
    )
    for limit in principal.limits:
        bindings = list(_intersect(bindings, limit))
    found: dict[str, frozenset[Permission]] = defaultdict(frozenset)
    for binding, permissions in bindings:
        # a part of a repository's name that clients could not show; what is granted there is granted all the same
        if "/" not in binding.name:
            found[binding.pattern] |= permissions
    return {entity: permissions for entity, permissions in sorted(found.items()) if permissions}


def roles_of(permissions: frozenset[Permission]) -> list[str]:
    """The built-in roles whose permissions are all among these."""
    return [name for name, role in BUILT_IN.items() if role.name == name and role.permissions <= permissions]


def _intersect(
    bindings: Iterable[tuple[Binding, frozenset[Permission]]], limit: Grants
) -> Iterator[tuple[Binding, frozenset[Permission]]]:
    """What both allow, as far as one pattern covers the other."""
    for (binding, permissions), other in itertools.product(bindings, limit.bindings):
        if other.covers(binding):
            yield binding, permissions & other.role.permissions
        elif binding.covers(other):
            yield other, permissions & other.role.permissions
