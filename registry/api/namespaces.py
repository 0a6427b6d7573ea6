"""GET namespace/: which namespaces there are, with the numbers that conda-store's clients know them by."""

from __future__ import annotations

from aiohttp import web

from auth.permission import Permission
from registry.api.documents import answer_list
from registry.observer import PRINCIPAL
from registry.parts import PARTS

SORTS = ("id", "name")


async def list_namespaces(request: web.Request) -> web.StreamResponse:
    """Those that the sender may read."""
    parts, principal = request.app[PARTS], request[PRINCIPAL]
    found = await parts.namespaces.list_all()
    if not parts.access.may_everywhere(principal, Permission.NAMESPACE_READ):
        found = [each for each in found if parts.access.may(principal, Permission.NAMESPACE_READ, each.name)]
    return answer_list(request, [{"id": each.number, "name": each.name} for each in found], SORTS)
