"""Lists in pages: reading which page is requested, and answering with tags or referrers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson
from aiohttp import web
from multidict import MultiMapping

from registry.errors import FilterInvalid, PageInvalid
from registry.http.references import Target
from storage.digest import Digest
from storage.oci import LONGEST_REPOSITORY, OCI_INDEX
from storage.repositories.pushed import Page, Referrer

DEFAULT_PAGE = 1000
MOST_ON_PAGE = 10_000
MOST_ASKED = 1_000_000
REFERRERS_PAGE = 500
REFERRERS_BYTES = 3 << 20
"""Clients refuse manifests over 4 MiB, and so a list of this type."""

JSON_HEADERS = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}

_NUMBER = re.compile(r"[0-9]{1,7}")


class PageAsked(NamedTuple):
    limit: int
    last: str | None


class ReferrersAsked(NamedTuple):
    subject: Digest
    artifact_type: str | None
    last: Digest | None
    limit: int


def read_page(query: MultiMapping[str]) -> PageAsked:
    """Read `n` and `last`; raises PageInvalid. int() alone would accept signs, spaces, underscores and other digits."""
    last = query.get("last")
    if last is not None and (len(last) > LONGEST_REPOSITORY or "\0" in last):
        raise PageInvalid("last", last, "expected the last entry of the previous page")
    text = query.get("n")
    if text is None:
        return PageAsked(DEFAULT_PAGE, last)
    if not _NUMBER.fullmatch(text) or int(text) > MOST_ASKED:
        raise PageInvalid("n", text, f"expected a whole number from 0 to {MOST_ASKED}")
    return PageAsked(min(int(text), MOST_ON_PAGE), last)


def answer_tags(request: web.Request, target: Target, tags: Sequence[str]) -> web.Response:
    """The requested page of `tags`, which are all tags, sorted."""
    limit, last = read_page(request.query)
    found = [tag for tag in tags if last is None or tag > last]
    return answer_tags_page(target, limit, Page(found[:limit], len(found) > limit))


def answer_tags_page(target: Target, limit: int, page: Page[str]) -> web.Response:
    headers = link(f"/v2/{target.repository}/tags/list", limit, page.items, page.more)
    return answer_json({"name": target.repository, "tags": page.items}, headers)


def read_referrers_page(request: web.Request, target: Target) -> ReferrersAsked:
    limit = min(read_page(request.query).limit, REFERRERS_PAGE) or REFERRERS_PAGE
    last = Digest.parse(request.query["last"]) if "last" in request.query else None
    wanted = request.query.get("artifactType") or None
    if wanted is not None and not wanted.isprintable():  # a database may refuse to search for it
        raise FilterInvalid(wanted)
    return ReferrersAsked(Digest.parse(target.reference), wanted, last, limit)


def answer_referrers(request: web.Request, target: Target, referrers: Sequence[Referrer]) -> web.Response:
    """The requested page of `referrers`, which are all referrers, sorted by digest."""
    asked = read_referrers_page(request, target)
    found = [
        each
        for each in referrers
        if asked.artifact_type in (None, each.artifact_type)
        and (asked.last is None or each.descriptor.digest > asked.last)
    ]
    return answer_referrers_page(target, asked, Page(found[: asked.limit], len(found) > asked.limit))


def answer_referrers_page(target: Target, asked: ReferrersAsked, page: Page[Referrer]) -> web.Response:
    entries, cut = _take_fitting(page.items)
    headers = {"Content-Type": OCI_INDEX}
    if asked.artifact_type is not None:
        headers["OCI-Filters-Applied"] = "artifactType"
    if page.more or cut:
        query: dict[str, Any] = {"n": asked.limit, "last": entries[-1]["digest"]}
        if asked.artifact_type is not None:
            query["artifactType"] = asked.artifact_type
        path = f"/v2/{target.repository}/referrers/{asked.subject}"
        headers["Link"] = f'<{path}?{urlencode(query, quote_via=quote)}>; rel="next"'
    return answer_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, headers)


def _take_fitting(referrers: Sequence[Referrer]) -> tuple[list[dict[str, Any]], bool]:
    """As many as fit in an index that clients accept, at least one, and whether some are left over."""
    entries: list[dict[str, Any]] = []
    size = 0
    for each in referrers:
        entry = each.to_json()
        size += len(orjson.dumps(entry)) + 1
        if entries and size > REFERRERS_BYTES:
            return entries, True
        entries.append(entry)
    return entries, False


def link(path: str, limit: int, shown: Sequence[str], more: bool) -> dict[str, str]:
    if not shown or not more:
        return {}
    return {"Link": f'<{path}?{urlencode({"n": limit, "last": shown[-1]}, quote_via=quote)}>; rel="next"'}


def answer_json(document: object, headers: dict[str, str]) -> web.Response:
    return web.Response(body=orjson.dumps(document), headers={**JSON_HEADERS, **headers})
