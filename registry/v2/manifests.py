"""Manifests by tag and digest: from memory, from the database, or by a build; pushed and deleted."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from registry.errors import BodyTooLarge, DigestOfBody, TagsInvalid
from registry.http.instant import suits
from registry.http.intake import read_limited
from registry.http.manifests import Prepared, Variants, accepted
from registry.http.ranges import matches
from registry.http.references import Target, checked_new_tag, checked_tag, is_digest, path_digest
from registry.logs.request_log import LOG_FIELDS
from registry.notifications import note_manifest_pull, recorder
from registry.parts import MEMORY, PARTS, SETTINGS, Image, Ticket, caller_of, room_for
from registry.v2.waiting import building_head, offered, trickle
from registry.webhooks.events import EventTarget
from storage.catalog.uses import note_manifest_use
from storage.digest import Digest
from storage.errors import ManifestUnknown, RepositoryUnknown, StorageError
from storage.repositories.manifest_document import read_manifest
from storage.repositories.repositories import Push, StoredManifest

LARGEST = 4 << 20
"""Bytes of a manifest: what clients read, and the specification asks for at least."""

PARSED = 4
"""Times that a manifest's size is taken of the memory for pushes."""

MOST_TAGS = 64
"""Of one push. Each is a header of the answer, and Python's HTTP client takes no answer with more than 100."""


async def get_manifest(request: web.Request, target: Target) -> web.StreamResponse:
    app, repository, reference = request.app, target.repository, target.reference
    parts = app[PARTS]
    scope = parts.scope(repository)
    stamp = parts.changes.stamp(scope)
    if is_digest(reference):
        return answer(request, await _stored(request, scope, path_digest(reference), stamp))
    variants = app[MEMORY].tag(repository, reference, stamp)
    if variants is None:
        tag = checked_tag(reference)
        if parts.demand.owns(repository):
            return await _demanded(request, repository, tag, stamp)
        variants = await _tagged(request, repository, tag, stamp)
    return answer(request, variants.choose(accept_header(request)))


async def _tagged(request: web.Request, repository: str, tag: str, stamp: int) -> Variants:
    """What was pushed as `tag`, now in memory; raises ManifestUnknown, RepositoryUnknown."""
    parts = request.app[PARTS]
    stored = await parts.repositories.tagged(repository, tag)
    if stored is None:
        if not await parts.repositories.exists(repository):
            raise RepositoryUnknown(repository)
        raise ManifestUnknown(repository, tag)
    variants = Variants.pushed(Prepared.of(stored))
    request.app[MEMORY].keep_tag(repository, tag, variants, stamp)
    return variants


async def put_manifest(request: web.Request, target: Target) -> web.StreamResponse:
    """Store a manifest under its digest, and under a tag: of the path, or the query's `tag` beside a digest."""
    parts, repository = request.app[PARTS], target.repository
    wanted = Digest.parse(target.reference) if is_digest(target.reference) else None
    tags = _tags(request) if wanted is not None else [checked_new_tag(target.reference)]
    if (request.content_length or 0) > LARGEST:
        raise BodyTooLarge(LARGEST)
    await parts.repositories.check_push(repository, wanted, tags, request.content_length)
    # what the document is parsed into takes more than its text
    async with room_for(request, PARSED * min(request.content_length or LARGEST, LARGEST)):
        body = await read_limited(request, LARGEST, request.app[SETTINGS].stall_seconds)
        return await _store(request, repository, wanted, tags, body)


async def _store(
    request: web.Request, repository: str, wanted: Digest | None, tags: list[str], body: bytes
) -> web.StreamResponse:
    parts = request.app[PARTS]
    document = await asyncio.to_thread(read_manifest, request.headers.get("Content-Type"), body)
    digest = _digest_of(body, wanted)
    push = Push(
        manifest=StoredManifest(digest, document.media_type, body),
        blobs=document.blobs,
        optional_blobs=document.optional_blobs,
        children=[child.digest for child in document.children],
        subject=document.subject.digest if document.subject else None,
        artifact_type=document.artifact_type,
        annotations=document.annotations,
    )
    named = (*document.blobs, *document.children)
    told = [EventTarget(digest, document.media_type, len(body), tag, references=named) for tag in tags or (None,)]
    await parts.repositories.put_manifest(repository, push, tags, recorder(request, "push", repository, lambda _: told))
    response = web.Response(status=201, headers={"Docker-Content-Digest": digest})
    response.headers["Location"] = f"/v2/{repository}/manifests/{digest}"
    if document.subject is not None:
        response.headers["OCI-Subject"] = document.subject.digest
    if wanted is not None:
        for tag in tags:
            response.headers.add("OCI-Tag", tag)
    return response


def _tags(request: web.Request) -> list[str]:
    """The query's tags, each once; raises TagsInvalid, TagMalformed."""
    texts = [tag for text in request.query.getall("tag", ()) for tag in text.split(",")]
    if len(texts) > MOST_TAGS:
        raise TagsInvalid(len(texts), MOST_TAGS)
    return list(dict.fromkeys(map(checked_new_tag, texts)))


def _digest_of(body: bytes, wanted: Digest | None) -> Digest:
    """Raises DigestOfBody when it is not the one that is wanted."""
    if wanted is None:
        return Digest.of(body)
    hasher = wanted.hasher()
    hasher.update(body)
    found = Digest.of_hasher(hasher)
    if found != wanted:
        raise DigestOfBody(wanted, found)
    return found


async def delete_manifest(request: web.Request, target: Target) -> web.StreamResponse:
    """A digest with all its tags, or one tag alone; gone when this answers."""
    repositories, repository = request.app[PARTS].repositories, target.repository
    if is_digest(target.reference):
        digest = path_digest(target.reference)
        await repositories.delete_manifest(
            repository,
            digest,
            recorder(
                request,
                "delete",
                repository,
                lambda tags: [*(EventTarget(tag=tag) for tag in tags), EventTarget(digest)],
            ),
        )
    else:
        tag = checked_tag(target.reference)
        await repositories.delete_tag(
            repository, tag, recorder(request, "delete", repository, lambda _: [EventTarget(tag=tag)])
        )
    return web.Response(status=202)


async def _demanded(request: web.Request, repository: str, tag: str, stamp: int) -> web.StreamResponse:
    """Answer a tag that is not in memory: from the catalog, or by a build and the rules of `registry.v2.waiting`."""
    parts, settings = request.app[PARTS], request.app[SETTINGS]
    deadline = asyncio.get_running_loop().time() + settings.answer_within
    ticket = await parts.demand.image(repository, tag, caller_of(request))
    if ticket.build_id:
        request[LOG_FIELDS]["build"] = ticket.build_id
    image = await ticket.wait(max(deadline - asyncio.get_running_loop().time(), 0))
    if image is not None:
        variants = await _remembered(request, repository, tag, image)
        return answer(request, variants.choose(accept_header(request)).with_stale(ticket.stale))
    return await _unfinished(request, repository, tag, ticket)


async def _unfinished(request: web.Request, repository: str, tag: str, ticket: Ticket[Image]) -> web.StreamResponse:
    media_types = offered(ticket.spec)
    media_type = media_types[accepted(accept_header(request), media_types)]
    if request.method == "HEAD":
        return building_head(media_type)

    async def prepare(image: Image) -> Prepared:
        variants = await _remembered(request, repository, tag, image)
        manifest = next(each for each in variants.prepared if each.media_type == media_type)
        note_manifest_pull(request, manifest)
        return manifest

    start = request.app[PARTS].beginning(ticket.spec, media_type)
    return await trickle(request, ticket, media_type, start, request.app[SETTINGS], prepare)


async def _remembered(request: web.Request, repository: str, tag: str, image: Image) -> Variants:
    """The image's manifests, now in memory."""
    parts = request.app[PARTS]
    scope = parts.scope(repository)
    # taken after the build, which changes the scope itself, and before the manifests are read
    stamp = parts.changes.stamp(scope)
    stored = [await _stored(request, scope, variant.digest, stamp) for variant in image.variants]
    variants = Variants.of([each.with_warnings(image.warnings) for each in stored], image.expires)
    request.app[MEMORY].keep_tag(repository, tag, variants, stamp)
    return variants


async def _stored(request: web.Request, scope: str, digest: Digest, stamp: int) -> Prepared:
    """The manifest `digest`, from memory or the database; never by the builder. Raises ManifestUnknown."""
    memory = request.app[MEMORY]
    prepared = memory.digest(scope, digest, stamp)
    if prepared is None:
        stored = await request.app[PARTS].repositories.manifest(scope, digest)
        if stored is None:
            raise ManifestUnknown(scope, digest)
        with contextlib.suppress(StorageError):
            await note_manifest_use(request.app[PARTS].blobs.database, scope, digest)
        prepared = Prepared.of(stored)
        memory.keep_digest(scope, prepared, stamp)
    return prepared


def accept_header(request: web.Request) -> str:
    """All Accept headers as one: docker sends a line for each media type. None means all."""
    return ",".join(request.headers.getall("Accept", ())) or "*/*"


def answer(request: web.Request, manifest: Prepared) -> web.StreamResponse:
    if "If-None-Match" in request.headers and matches(request.headers["If-None-Match"], manifest.headers["ETag"]):
        return web.Response(status=304, headers=manifest.headers)
    note_manifest_pull(request, manifest)
    # where pages may read, every answer has to say that it depends on who asks
    if suits(request) and not request.app[SETTINGS].cors_origins:
        return manifest.instant
    return web.Response(body=manifest.body, headers=manifest.headers)
