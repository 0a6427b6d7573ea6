"""Manifests by tag and digest: reads by the kind of the repository, pushes, deletions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from aiohttp import web

from auth.permission import Permission
from registry.errors import BodyTooLarge, DigestOfBody, TagsInvalid
from registry.http.intake import read_limited
from registry.http.references import Target, check_new_tag, check_tag, is_digest, path_digest
from registry.kinds.kind import KIND, is_granted
from registry.notifications import recorder
from registry.parts import PARTS, SETTINGS, room_for
from registry.v2.written import ask_for_written, find_written
from registry.webhooks.events import EventTarget
from storage.digest import Digest
from storage.events.outbox import Record
from storage.repositories.manifest_document import ManifestDocument, read_manifest
from storage.repositories.rows import Push, StoredManifest

LARGEST = 4 << 20
"""The largest manifest in bytes: the size that clients read, and the least that the specification requires."""

PARSED = 4
"""How many times a manifest's size it takes from the memory for pushes."""

MOST_TAGS = 64
"""The most tags in one push. Each is a header of the answer, and Python's HTTP client refuses more than 100."""


def get_manifest(request: web.Request, target: Target) -> Awaitable[web.StreamResponse]:
    return request[KIND].get_manifest(request, target)


async def put_manifest(request: web.Request, target: Target) -> web.StreamResponse:
    """Store a manifest under its digest and a tag: the path's, or the query's `tag` beside a digest."""
    parts, repository = request.app[PARTS], target.repository
    wanted = Digest.parse(target.reference) if is_digest(target.reference) else None
    tags = _tags(request) if wanted is not None else [check_new_tag(target.reference)]
    if (request.content_length or 0) > LARGEST:
        raise BodyTooLarge(LARGEST)
    # what is pushed to an environment gets no tag of the client's
    is_environment = repository in parts.stored_environments.environments.names
    await parts.repositories.check_push(repository, wanted, [] if is_environment else tags, request.content_length)
    # the parsed document takes more memory than its text
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
    written = find_written(document)
    record = _record_push(request, repository, document, push, [])
    asked = await ask_for_written(request, repository, written, push, record) if written is not None else None
    if asked is None:
        record = _record_push(request, repository, document, push, tags)
        # who may only create never takes a tag from what it means
        moves = is_granted(request, request[KIND].needs(Permission.ENVIRONMENT_UPDATE, repository))
        await parts.repositories.put_manifest(repository, push, tags, record, moves=moves)
    response = web.Response(status=201, headers={"Docker-Content-Digest": digest})
    response.headers["Location"] = f"/v2/{repository}/manifests/{digest}"
    if document.subject is not None:
        response.headers["OCI-Subject"] = document.subject.digest
    if asked is not None:
        asked.add_headers(response)
    elif wanted is not None:
        for tag in tags:
            response.headers.add("OCI-Tag", tag)
    return response


def _record_push(
    request: web.Request, repository: str, document: ManifestDocument, push: Push, tags: Sequence[str]
) -> Record[None] | None:
    manifest, named = push.manifest, (*document.blobs, *document.children)
    told = [
        EventTarget(manifest.digest, manifest.media_type, len(manifest.body), tag, references=named)
        for tag in tags or (None,)
    ]
    return recorder(request, "push", repository, lambda _: told)


def _tags(request: web.Request) -> list[str]:
    """The query's tags, each once; raises TagsInvalid, TagMalformed."""
    texts = [tag for text in request.query.getall("tag", ()) for tag in text.split(",")]
    if len(texts) > MOST_TAGS:
        raise TagsInvalid(len(texts), MOST_TAGS)
    return list(dict.fromkeys(map(check_new_tag, texts)))


def _digest_of(body: bytes, wanted: Digest | None) -> Digest:
    """The body's digest; raises DigestOfBody if another one is wanted."""
    if wanted is None:
        return Digest.of(body)
    hasher = wanted.hasher()
    hasher.update(body)
    found = Digest.of_hasher(hasher)
    if found != wanted:
        raise DigestOfBody(wanted, found)
    return found


async def delete_manifest(request: web.Request, target: Target) -> web.StreamResponse:
    """Delete a digest with all its tags, or a single tag; it is gone when this answers."""
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
        tag = check_tag(target.reference)
        await repositories.delete_tag(
            repository, tag, recorder(request, "delete", repository, lambda _: [EventTarget(tag=tag)])
        )
    return web.Response(status=202)
