"""Blobs of a repository: read and deleted. How they come is `registry.v2.uploads`."""

from __future__ import annotations

import contextlib

from aiohttp import web

from registry.http.references import Target, path_digest
from registry.http.transfer import send_content
from registry.notifications import note_blob_pull, recorder
from registry.parts import MEMORY, PARTS, SETTINGS
from registry.webhooks.events import EventTarget
from storage.blobs.blobs import StoredBlob
from storage.catalog.uses import note_blob_use
from storage.digest import Digest
from storage.errors import ObjectMissing, StorageError

HEADERS = {"Content-Type": "application/octet-stream", "Cache-Control": "max-age=31536000, immutable"}


async def get_blob(request: web.Request, target: Target) -> web.StreamResponse:
    repository, digest = target.repository, path_digest(target.reference)
    blob = await find_blob(request, repository, digest)
    try:
        answer = await _send(request, blob)
    except ObjectMissing:
        if request.writer.output_size > 0:
            raise
        # it may have been collected, and even pushed again, since it was found
        blob = await request.app[PARTS].repositories.blob(request.app[PARTS].scope(repository), digest)
        answer = await _send(request, blob)
    note_blob_pull(request, repository, blob, answer.status)
    return answer


async def _send(request: web.Request, blob: StoredBlob) -> web.StreamResponse:
    parts, stall_seconds = request.app[PARTS], request.app[SETTINGS].stall_seconds
    return await send_content(request, parts.blobs, blob, HEADERS, stall_seconds=stall_seconds)


async def find_blob(request: web.Request, repository: str, digest: Digest) -> StoredBlob:
    """From memory or the database; raises BlobUnknown for what this repository does not have."""
    parts, memory = request.app[PARTS], request.app[MEMORY]
    scope = parts.scope(repository)
    stamp = parts.changes.stamp(scope)
    blob = memory.blob(scope, digest, stamp)
    if blob is None:
        blob = await parts.repositories.blob(scope, digest)
        if request.method == "HEAD":
            # who finds it here will not push it, and then name it
            with contextlib.suppress(StorageError):
                await note_blob_use(parts.blobs.database, scope, digest)
        memory.keep_blob(scope, blob, stamp)
    return blob


async def delete_blob(request: web.Request, target: Target) -> web.StreamResponse:
    repository, digest = target.repository, path_digest(target.reference)
    await request.app[PARTS].repositories.delete_blob(
        repository, digest, recorder(request, "delete", repository, lambda _: [EventTarget(digest)])
    )
    return web.Response(status=202)
