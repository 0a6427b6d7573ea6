"""Answers a pull while its image is built.

No client waits longer than `answer_within` without a byte: containerd gives up after 30 seconds without response
headers, load balancers after 60 without traffic. docs/clients.md has the measurements.

    GET   done in time     the manifest
          failed in time   404 with the reason
          still building   200 without a digest, and the manifest's own first bytes one by one, then the rest;
                           if the build fails after all, the connection is cut
    HEAD  still building   200 without a digest, which sends clients back with GET
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from aiohttp import web

from builder.image.documents import write_beginning
from builder.image.finished import FinishedImage
from builder.names.spec import EnvironmentSpec
from builder.ticket import Ticket
from registry.errors import BrokenPromise
from registry.http.manifests import Prepared, Variants, choose_accepted
from registry.http.settings import HttpSettings
from registry.kinds.stored import accept_header
from registry.logs.request_log import LOG_FIELDS
from registry.notifications import note_manifest_pull
from registry.parts import PARTS, SETTINGS
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

T = TypeVar("T")


async def wait_a_while(request: web.Request, asking: Awaitable[Ticket[T]]) -> tuple[Ticket[T], T | None]:
    """The ticket, and its result; None if both together take longer than `answer_within`."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + request.app[SETTINGS].answer_within
    ticket = await asking
    if ticket.build_id:
        request[LOG_FIELDS]["build"] = ticket.build_id
    return ticket, await ticket.wait(max(deadline - clock(), 0))


def media_types_of(spec: EnvironmentSpec) -> tuple[str, ...]:
    """The media types that an image of `spec` will be available in, the preferred one first."""
    return (OCI_MANIFEST, DOCKER_MANIFEST) if spec.single else (OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)


def pauses(count: int, settings: HttpSettings) -> Iterator[float]:
    """Seconds before each of `count` bytes: short at first, and long for as many as `trickle_cover` requires."""
    slow = min(count, int(settings.trickle_cover / settings.trickle_slowest))
    for _ in range(count - slow):
        yield settings.trickle_interval
    for _ in range(slow):
        yield settings.trickle_slowest


def building_head(media_type: str) -> web.StreamResponse:
    """The answer to a HEAD of an image that is still being built: it exists, but its digest is unknown."""
    return web.StreamResponse(headers={"Content-Type": media_type, "Cache-Control": "no-store"})


async def answer_unfinished(
    request: web.Request, ticket: Ticket[FinishedImage], load: Callable[[FinishedImage], Awaitable[Variants]]
) -> web.StreamResponse:
    """Answer while the image is built; `load` makes the manifests of the finished one.

    Raises the build's error, BrokenPromise, ConnectionError.
    """
    media_types = media_types_of(ticket.spec)
    media_type = media_types[choose_accepted(accept_header(request), media_types)]
    if request.method == "HEAD":
        return building_head(media_type)

    async def prepare(image: FinishedImage) -> Prepared:
        variants = await load(image)
        manifest = next(each for each in variants.prepared if each.media_type == media_type)
        note_manifest_pull(request, request.app[PARTS], manifest)
        return manifest

    start = write_beginning(ticket.spec, media_type)
    return await trickle(request, ticket, media_type, start, request.app[SETTINGS], prepare)


async def trickle(
    request: web.Request,
    ticket: Ticket[FinishedImage],
    media_type: str,
    start: bytes,
    settings: HttpSettings,
    prepare: Callable[[FinishedImage], Awaitable[Prepared]],
) -> web.StreamResponse:
    """Send headers, then `start` byte by byte until the build has ended, then the rest of the manifest.

    `prepare` makes the manifest of `media_type` from the finished image. Raises the build's error, BrokenPromise, or
    ConnectionError if the client hangs up, which does not affect the build.
    """
    response = web.StreamResponse(headers={"Content-Type": media_type, "Cache-Control": "no-store"})
    await response.prepare(request)
    await response.write(start[:1])
    sent = 1
    image = None
    for pause in pauses(len(start) - 1, settings):
        image = await ticket.wait(pause)
        if image is not None:
            break
        await response.write(start[sent : sent + 1])
        sent += 1
    manifest = await prepare(image or await _wait_to_end(ticket))
    if not manifest.body.startswith(start[:sent]) or manifest.media_type != media_type:
        raise BrokenPromise(manifest.digest, sent)
    await response.write_eof(manifest.body[sent:])
    return response


async def _wait_to_end(ticket: Ticket[FinishedImage]) -> FinishedImage:
    image = await ticket.wait(None)
    assert image is not None, "a wait without a limit ends with the image"
    return image
