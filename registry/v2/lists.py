"""Lists, a page at a time: tags, repositories, and what refers to a manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson
from aiohttp import web
from multidict import MultiMapping

from builder.image.documents import OCI_INDEX
from registry.errors import FilterInvalid, PageInvalid, shortened
from registry.http.references import LONGEST_NAME, Target
from registry.parts import PARTS, principal_of
from storage.digest import Digest
from storage.repositories.repositories import Page, Referrer

DEFAULT_PAGE = 1000
MOST_ON_PAGE = 10_000
MOST_ASKED = 1_000_000
REFERRERS_PAGE = 500
REFERRERS_BYTES = 3 << 20
"""Clients refuse manifests of over 4 MiB, and so such a list."""

JSON_HEADERS = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}

_NUMBER = re.compile(r"[0-9]{1,7}")


async def get_base(_request: web.Request, _target: Target) -> web.StreamResponse:
    return _json({}, {"Docker-Distribution-API-Version": "registry/2.0"})


async def get_tags(request: web.Request, target: Target) -> web.StreamResponse:
    """The tags in the order of their bytes, after `last`, at most `n` of them; a Link to the rest (RFC 8288)."""
    limit, last = _page(request.query)
    parts = request.app[PARTS]
    if parts.demand.owns(target.repository):
        return answer_tags(request, target, sorted(await parts.demand.tags(target.repository)))
    return _tags_page(target, limit, await parts.repositories.tags(target.repository, last, limit))


def answer_tags(request: web.Request, target: Target, tags: Sequence[str]) -> web.Response:
    """The page that is asked for of `tags`, which are all, in order."""
    limit, last = _page(request.query)
    found = [tag for tag in tags if last is None or tag > last]
    return _tags_page(target, limit, Page(found[:limit], len(found) > limit))


def _tags_page(target: Target, limit: int, page: Page[str]) -> web.Response:
    headers = _link(f"/v2/{target.repository}/tags/list", limit, page.items, page.more)
    return _json({"name": target.repository, "tags": page.items}, headers)


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
    parts, asked = request.app[PARTS], _referrers_asked(request, target)
    scope = parts.scope(target.repository)
    page = await parts.repositories.referrers(
        scope, asked.subject, asked.artifact_type, asked.last, asked.limit, REFERRERS_BYTES
    )
    return _referrers_page(target, asked, page)


def answer_referrers(request: web.Request, target: Target, referrers: Sequence[Referrer]) -> web.Response:
    """The page that is asked for of `referrers`, which are all, in the order of their digests."""
    asked = _referrers_asked(request, target)
    found = [
        each
        for each in referrers
        if asked.artifact_type in (None, each.artifact_type)
        and (asked.last is None or each.descriptor.digest > asked.last)
    ]
    return _referrers_page(target, asked, Page(found[: asked.limit], len(found) > asked.limit))


class _ReferrersAsked(NamedTuple):
    subject: Digest
    artifact_type: str | None
    last: Digest | None
    limit: int


def _referrers_asked(request: web.Request, target: Target) -> _ReferrersAsked:
    limit = min(_page(request.query)[0], REFERRERS_PAGE) or REFERRERS_PAGE
    last = Digest.parse(request.query["last"]) if "last" in request.query else None
    wanted = request.query.get("artifactType") or None
    if wanted is not None and not wanted.isprintable():  # a database may refuse to look for it
        raise FilterInvalid(wanted)
    return _ReferrersAsked(Digest.parse(target.reference), wanted, last, limit)


def _referrers_page(target: Target, asked: _ReferrersAsked, page: Page[Referrer]) -> web.Response:
    entries, cut = _fitting(page.items)
    headers = {"Content-Type": OCI_INDEX}
    if asked.artifact_type is not None:
        headers["OCI-Filters-Applied"] = "artifactType"
    if page.more or cut:
        query: dict[str, Any] = {"n": asked.limit, "last": entries[-1]["digest"]}
        if asked.artifact_type is not None:
            query["artifactType"] = asked.artifact_type
        path = f"/v2/{target.repository}/referrers/{asked.subject}"
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
    return web.Response(body=orjson.dumps(document), headers={**JSON_HEADERS, **headers})
