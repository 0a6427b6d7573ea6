"""Lists, a page at a time: tags, repositories, and what refers to a manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from aiohttp import web
from multidict import MultiMapping

from builder.image import OCI_INDEX
from registry.errors import PageInvalid, shortened
from registry.parts import PARTS, principal_of
from registry.references import LONGEST_NAME, Target
from storage.digest import Digest
from storage.repositories import Referrer

DEFAULT_PAGE = 1000
MOST_ON_PAGE = 10_000
MOST_ASKED = 1_000_000
REFERRERS_PAGE = 500
REFERRERS_BYTES = 3 << 20
"""Clients refuse manifests of over 4 MiB, and so such a list."""

_NUMBER = re.compile(r"[0-9]{1,7}")


async def get_base(_request: web.Request, _target: Target) -> web.StreamResponse:
    return _json({}, {"Docker-Distribution-API-Version": "registry/2.0"})


async def get_tags(request: web.Request, target: Target) -> web.StreamResponse:
    """The tags in the order of their bytes, after `last`, at most `n` of them; a Link to the rest (RFC 8288)."""
    limit, last = _page(request.query)
    parts = request.app[PARTS]
    if parts.demand.owns(target.repository):
        found = [tag for tag in sorted(await parts.demand.tags(target.repository)) if last is None or tag > last]
        tags, more = found[:limit], len(found) > limit
    else:
        page = await parts.repositories.tags(target.repository, last, limit)
        tags, more = page.items, page.more
    headers = _link(f"/v2/{target.repository}/tags/list", limit, tags, more)
    return _json({"name": target.repository, "tags": tags}, headers)


async def get_catalog(request: web.Request, _target: Target) -> web.StreamResponse:
    """The repositories that the principal may pull from. Images made on demand have names without end."""
    limit, last = _page(request.query)
    parts, principal = request.app[PARTS], principal_of(request)
    shown: list[str] = []
    after, more = last, limit > 0
    while more and len(shown) <= limit:
        page = await parts.repositories.names(after, limit + 1)
        after, more = (page.items[-1] if page.items else None), page.more
        shown += [
            name for name in page.items if not parts.demand.owns(name) and parts.access.may(principal, "pull", name)
        ]
    names, more = shown[:limit], len(shown) > limit
    return _json({"repositories": names}, _link("/v2/_catalog", limit, names, more))


async def get_referrers(request: web.Request, target: Target) -> web.StreamResponse:
    """An image index of what has the digest as its subject; empty, never 404, where nothing has."""
    parts = request.app[PARTS]
    subject = Digest.parse(target.reference)
    wanted = request.query.get("artifactType") or None
    limit = min(_page(request.query)[0], REFERRERS_PAGE) or REFERRERS_PAGE
    last = Digest.parse(request.query["last"]) if "last" in request.query else None
    page = await parts.repositories.referrers(parts.scope(target.repository), subject, wanted, last, limit)
    entries, cut = _fitting(page.items)
    headers = {"Content-Type": OCI_INDEX}
    if wanted is not None:
        headers["OCI-Filters-Applied"] = "artifactType"
    if page.more or cut:
        query: dict[str, Any] = {"n": limit, "last": entries[-1]["digest"]}
        if wanted is not None:
            query["artifactType"] = wanted
        path = f"/v2/{target.repository}/referrers/{subject}"
        headers["Link"] = f'<{path}?{urlencode(query, quote_via=quote)}>; rel="next"'
    return _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, headers)


def _fitting(referrers: Sequence[Referrer]) -> tuple[list[dict[str, Any]], bool]:
    """As many as an index that clients read can have, at least one, and whether that left some out."""
    entries: list[dict[str, Any]] = []
    size = 0
    for each in referrers:
        entry = each.to_json()
        size += len(orjson.dumps(entry)) + 1
        if entries and size > REFERRERS_BYTES:
            return entries, True
        entries.append(entry)
    return entries, False


def _page(query: MultiMapping[str]) -> tuple[int, str | None]:
    """`n` and `last`; raises PageInvalid. int() would take signs, spaces, underscores and other scripts' digits."""
    last = query.get("last")
    if last is not None and (len(last) > LONGEST_NAME or "\0" in last):
        raise PageInvalid("last", shortened(last), "expected what the list had last")
    text = query.get("n")
    if text is None:
        return DEFAULT_PAGE, last
    if not _NUMBER.fullmatch(text) or int(text) > MOST_ASKED:
        raise PageInvalid("n", shortened(text), f"expected a whole number from 0 to {MOST_ASKED}")
    return min(int(text), MOST_ON_PAGE), last


def _link(path: str, limit: int, shown: Sequence[str], more: bool) -> dict[str, str]:
    if not shown or not more:
        return {}
    return {"Link": f'<{path}?{urlencode({"n": limit, "last": shown[-1]}, quote_via=quote)}>; rel="next"'}


def _json(document: object, headers: dict[str, str]) -> web.Response:
    return web.Response(body=orjson.dumps(document), headers={"Content-Type": "application/json", **headers})
