"""Reads and deletes a repository's blobs. `registry.v2.uploads` receives them."""

from __future__ import annotations

from collections.abc import Awaitable

from aiohttp import web

from registry.http.references import Target, path_digest
from registry.kinds.kind import KIND
from registry.notifications import recorder
from registry.parts import PARTS
from registry.webhooks.events import EventTarget


def get_blob(request: web.Request, target: Target) -> Awaitable[web.StreamResponse]:
    return request[KIND].get_blob(request, target)


async def delete_blob(request: web.Request, target: Target) -> web.StreamResponse:
    repository, digest = target.repository, path_digest(target.reference)
    await request.app[PARTS].repositories.delete_blob(
        repository, digest, recorder(request, "delete", repository, lambda _: [EventTarget(digest)])
    )
    return web.Response(status=202)
