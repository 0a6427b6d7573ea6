"""The read half of the distribution API (distribution-spec 1.1): base, manifests, blobs, tags, referrers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import orjson
from aiohttp import web
from multidict import MultiMapping

from builder.image import OCI_INDEX
from registry.errors import ManifestUnknown, MethodUnsupported, PageInvalid, RepositoryUnknown, RouteUnknown
from registry.manifests import Prepared, Variants, accepted
from registry.parts import LOG_FIELDS, MEMORY, PARTS, SETTINGS, Image, Ticket
from registry.ranges import matches
from registry.references import Kind, Target, checked_tag, is_digest, parse_path, path_digest
from registry.transfer import send_content
from registry.waiting import building_head, offered, trickle
from storage.digest import Digest

READ = "GET, HEAD"
MOST_TAGS = 1_000_000
_NUMBER = re.compile(r"[0-9]{1,7}")


async def dispatch(request: web.Request) -> web.StreamResponse:
    """Everything below /v2."""
    target = parse_path(request.rel_url.raw_path)
    if request.method not in ("GET", "HEAD"):
        raise MethodUnsupported(request.method, READ)
    return await _HANDLERS[target.kind](request, target)


async def get_base(_request: web.Request, _target: Target) -> web.StreamResponse:
    return _json({}, {"Docker-Distribution-API-Version": "registry/2.0"})


async def get_manifest(request: web.Request, target: Target) -> web.StreamResponse:
    if is_digest(target.reference):
        digest = path_digest(target.reference)
        return _answer(request, await _stored(request, target.repository, digest))
    variants = request.app[MEMORY].tag(target.repository, target.reference)
    if variants is None:
        return await _demanded(request, target.repository, checked_tag(target.reference))
    return _answer(request, variants.choose(_accept_header(request)))


async def get_blob(request: web.Request, target: Target) -> web.StreamResponse:
    digest = path_digest(target.reference)
    return await send_content(
        request,
        request.app[PARTS].blobs,
        digest,
        {"Content-Type": "application/octet-stream", "Cache-Control": "max-age=31536000, immutable"},
        stall_seconds=request.app[SETTINGS].stall_seconds,
    )


async def get_upload(request: web.Request, _target: Target) -> web.StreamResponse:
    raise RouteUnknown(request.rel_url.raw_path)


async def get_tags(request: web.Request, target: Target) -> web.StreamResponse:
    """The tags in lexical order, after `last` and at most `n` of them; a Link to the rest (RFC 8288)."""
    limit, last = _page(request.query)
    demand = request.app[PARTS].demand
    if not demand.owns(target.repository):
        raise RepositoryUnknown(target.repository)
    tags = sorted(tag for tag in await demand.tags(target.repository) if last is None or tag > last)
    shown = tags if limit is None else tags[:limit]
    headers = {}
    if shown and len(shown) < len(tags):
        query = urlencode({"n": len(shown), "last": shown[-1]})
        headers["Link"] = f'</v2/{target.repository}/tags/list?{query}>; rel="next"'
    return _json({"name": target.repository, "tags": shown}, headers)


async def get_referrers(_request: web.Request, target: Target) -> web.StreamResponse:
    """Nothing refers to anything yet; the specification wants an empty index, never 404."""
    Digest.parse(target.reference)
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    return _json(document, {"Content-Type": OCI_INDEX})


_HANDLERS: dict[Kind, Callable[[web.Request, Target], Awaitable[web.StreamResponse]]] = {
    "base": get_base,
    "manifests": get_manifest,
    "blobs": get_blob,
    "uploads": get_upload,
    "tags": get_tags,
    "referrers": get_referrers,
}


async def _demanded(request: web.Request, repository: str, tag: str) -> web.StreamResponse:
    """Answer a tag that is not in memory: from the catalog, or by a build and the rules of `registry.waiting`."""
    parts, settings = request.app[PARTS], request.app[SETTINGS]
    if not parts.demand.owns(repository):
        raise RepositoryUnknown(repository)
    deadline = asyncio.get_running_loop().time() + settings.answer_within
    ticket = await parts.demand.image(repository, tag)
    if ticket.build_id:
        request[LOG_FIELDS]["build"] = ticket.build_id
    image = await ticket.wait(max(deadline - asyncio.get_running_loop().time(), 0))
    if image is not None:
        variants = await _remembered(request, repository, tag, image)
        return _answer(request, variants.choose(_accept_header(request)))
    return await _unfinished(request, repository, tag, ticket)


async def _unfinished(request: web.Request, repository: str, tag: str, ticket: Ticket[Image]) -> web.StreamResponse:
    media_types = offered(ticket.spec)
    media_type = media_types[accepted(_accept_header(request), media_types)]
    if request.method == "HEAD":
        return building_head(media_type)

    async def prepare(image: Image) -> Prepared:
        variants = await _remembered(request, repository, tag, image)
        return next(each for each in variants.prepared if each.media_type == media_type)

    start = request.app[PARTS].beginning(ticket.spec, media_type)
    return await trickle(request, ticket, media_type, start, request.app[SETTINGS], prepare)


async def _remembered(request: web.Request, repository: str, tag: str, image: Image) -> Variants:
    """The image's manifests, now in memory."""
    stored = [await _stored(request, repository, variant.digest) for variant in image.variants]
    variants = Variants.of([each.with_warnings(image.warnings) for each in stored], image.expires)
    request.app[MEMORY].keep_tag(repository, tag, variants)
    return variants


async def _stored(request: web.Request, repository: str, digest: Digest) -> Prepared:
    """The manifest `digest`, from memory or the catalog; never by the builder. Raises ManifestUnknown."""
    memory = request.app[MEMORY]
    prepared = memory.digest(digest)
    if prepared is None:
        stored = await request.app[PARTS].manifests.manifest(digest)
        if stored is None:
            raise ManifestUnknown(repository, digest)
        prepared = Prepared.of(stored)
        memory.keep_digest(prepared)
    return prepared


def _accept_header(request: web.Request) -> str:
    """All Accept headers as one: docker sends a line for each media type. None means all."""
    return ",".join(request.headers.getall("Accept", ())) or "*/*"


def _answer(request: web.Request, manifest: Prepared) -> web.Response:
    if "If-None-Match" in request.headers and matches(request.headers["If-None-Match"], manifest.headers["ETag"]):
        return web.Response(status=304, headers=manifest.headers)
    return web.Response(body=manifest.body, headers=manifest.headers)


def _page(query: MultiMapping[str]) -> tuple[int | None, str | None]:
    """`n` and `last`; raises PageInvalid. int() would take signs, spaces, underscores and other scripts' digits."""
    text = query.get("n")
    if text is None:
        return None, query.get("last")
    if not _NUMBER.fullmatch(text) or int(text) > MOST_TAGS:
        raise PageInvalid("n", text)
    return int(text), query.get("last")


def _json(document: object, headers: dict[str, str]) -> web.Response:
    return web.Response(body=orjson.dumps(document), headers={"Content-Type": "application/json", **headers})
