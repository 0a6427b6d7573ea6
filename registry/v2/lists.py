"""Lists in pages: repositories, tags and referrers; and the version of the API."""

from __future__ import annotations

from collections.abc import Awaitable

from aiohttp import web

from auth.permission import Permission
from registry.access.scopes import ALL, CATALOG
from registry.http.references import Target
from registry.kinds.kind import KIND, KINDS, is_permitted
from registry.kinds.pages import answer_json, link, read_page
from registry.observer import PRINCIPAL
from registry.parts import PARTS

CATALOG_SCOPE = f"{CATALOG}:{ALL}"


async def get_base(request: web.Request) -> web.StreamResponse:
    """Where clients that can sign in are told so: who is asked for no credentials here sends none later."""
    authentication = request.app[PARTS].authentication
    if "Authorization" not in request.headers and await authentication.has_sign_ins():
        raise authentication.challenge(request)
    return answer_json({}, {"Docker-Distribution-API-Version": "registry/2.0"})


async def get_catalog(request: web.Request) -> web.StreamResponse:
    """List the repositories that the principal may read. On-demand images are not listed: their names are endless."""
    limit, last = read_page(request.query)
    parts, kinds = request.app[PARTS], request.app[KINDS]
    scopes = request[PRINCIPAL].scopes
    if scopes is not None and ALL not in scopes.get(CATALOG, ()):
        raise parts.authentication.challenge(
            request, CATALOG_SCOPE, "insufficient_scope", f"the token was not issued for {CATALOG_SCOPE}"
        )

    def is_shown(name: str) -> bool:
        return kinds.lists(name) and is_permitted(request, kinds.of(name).needs(Permission.ENVIRONMENT_READ, name))

    access, principal = parts.access, request[PRINCIPAL]
    places = access.places(principal, Permission.ENVIRONMENT_READ)
    # of ten thousand names it takes longer to ask for each than to read them
    shows = kinds.lists if access.may_everywhere(principal, Permission.ENVIRONMENT_READ) else is_shown
    shown: list[str] = []
    after, more = last, limit > 0
    while more and len(shown) <= limit:
        page = await parts.repositories.names(after, limit + 1, places)
        after, more = (page.items[-1] if page.items else None), page.more
        shown += filter(shows, page.items)
    names, more = shown[:limit], len(shown) > limit
    return answer_json({"repositories": names}, link("/v2/_catalog", limit, names, more))


def get_tags(request: web.Request, target: Target) -> Awaitable[web.StreamResponse]:
    return request[KIND].get_tags(request, target)


def get_referrers(request: web.Request, target: Target) -> Awaitable[web.StreamResponse]:
    return request[KIND].get_referrers(request, target)
