"""Pushing blobs: mounts, whole blobs in one request, and sessions (distribution-spec, "Pushing blobs").

Locations are relative, so they hold under any name of the server. If a request breaks off, what arrived stays, and the
client continues from there. A request out of order is refused, and the session lives on.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from auth.permission import Permission
from registry.errors import BodyBroken, ContentRangeInvalid, NameInvalid
from registry.http.intake import receive
from registry.http.references import Target, check_repository
from registry.kinds.kind import KINDS, is_granted
from registry.notifications import recorder
from registry.observer import PRINCIPAL
from registry.parts import PARTS, SETTINGS, room_for
from registry.rates import caller_of
from registry.webhooks.events import EventTarget
from storage.blobs.rows import StoredBlob
from storage.digest import Digest, Hasher
from storage.errors import DigestInvalid, RangeInvalid, UploadUnknown
from storage.events.outbox import Record
from storage.quotas.arrivals import Arrival
from storage.repositories.uploads import Received, Upload
from storage.text import SPACES

_SESSION = re.compile(r"[0-9a-f-]{36}")
_RANGE = re.compile(r"(?:bytes[ =])?\s*([0-9]{1,18})-([0-9]{1,18})(?:/(?:\*|[0-9]{1,18}))?")


async def open_upload(request: web.Request, target: Target) -> web.StreamResponse:
    """Mount a blob, store a whole one, or open a session."""
    parts, query = request.app[PARTS], request.query
    if (mount := _mount_of(query)) is not None:
        if await _mount(request, target.repository, *mount):
            return _answer_created(target.repository, mount[0])
    elif "digest" in query:
        digest = Digest.parse(query["digest"])
        return await _take_whole(request, target.repository, digest)
    principal, caller = request[PRINCIPAL], caller_of(request)
    # nobody who is signed in has a name with this character
    opener = principal.id or (caller.name if caller.signed_in else f"@{caller.name}")
    upload = await parts.uploads.open(target.repository, principal.key, opener[:255])
    return _answer_accepted(upload)


def _mount_of(query: Mapping[str, str]) -> tuple[Digest, str | None] | None:
    """The blob to mount and the repository named as its source, if any; None if either is not a valid name.

    A mount is only an offer: a client that does not get the blob uploads it.
    """
    if "mount" not in query:
        return None
    with contextlib.suppress(DigestInvalid, NameInvalid):
        return Digest.parse(query["mount"]), check_repository(query["from"]) if "from" in query else None
    return None


async def _mount(request: web.Request, repository: str, digest: Digest, source: str | None) -> bool:
    """Whether `repository` now has the blob, from `source` or, if that is None, from any that the client may read.

    The named repository itself must be readable and show the blob, whichever repository stores it.
    """
    kinds = request.app[KINDS]

    def is_readable(name: str) -> bool:
        return is_granted(request, kinds.of(name).needs(Permission.ENVIRONMENT_READ, name))

    scope = None
    if source is not None:
        if not is_readable(source) or not await kinds.of(source).shows(source, digest):
            return False
        scope = kinds.of(source).scope(source)
    blob = await request.app[PARTS].repositories.mount(
        repository,
        digest,
        scope,
        is_readable if scope is None else lambda _: True,
        recorder(request, "mount", repository, lambda blob: [EventTarget.blob(blob.digest, blob.size, source=source)]),
    )
    return blob is not None


async def _take_whole(request: web.Request, repository: str, digest: Digest) -> web.StreamResponse:
    parts = request.app[PARTS]
    async with parts.uploads.arriving(repository, digest) as arrival:
        received = await _describe_received(request, arrival, digest.hasher())
        await parts.uploads.store(repository, digest, received, _record_push(request, repository))
    return _answer_created(repository, digest)


async def get_upload(request: web.Request, target: Target) -> web.StreamResponse:
    return _state(await _find(request, target), 204)


async def append_to_upload(request: web.Request, target: Target) -> web.StreamResponse:
    """Append the body to the session: at the place in its Content-Range, or streamed after what is there."""
    parts = request.app[PARTS]
    upload = await _find(request, target)
    length = _expected_size(request, upload)
    async with _arriving(request, upload) as arrival:
        received = await _describe_received(request, arrival, parts.uploads.hasher(upload))
        _check_length(upload, length, received.size)
        if received.size:
            upload = await parts.uploads.append(upload, received)
    return _answer_accepted(upload)


async def finish_upload(request: web.Request, target: Target) -> web.StreamResponse:
    """Make a blob of the session's bytes and the body's."""
    parts = request.app[PARTS]
    upload = await _find(request, target)
    if "digest" not in request.query:
        raise DigestInvalid("")
    digest = Digest.parse(request.query["digest"])
    if not request.can_read_body or request.content_length == 0:
        await parts.uploads.finish(upload, digest, record=_record_push(request, target.repository))
        return _answer_created(target.repository, digest)
    length = _expected_size(request, upload)
    async with _arriving(request, upload, digest) as arrival:
        received = await _describe_received(request, arrival, parts.uploads.hasher(upload, digest.algorithm))
        _check_length(upload, length, received.size)
        await parts.uploads.finish(upload, digest, received, _record_push(request, target.repository))
    return _answer_created(target.repository, digest)


async def cancel_upload(request: web.Request, target: Target) -> web.StreamResponse:
    await request.app[PARTS].uploads.cancel(await _find(request, target))
    return web.Response(status=204)


def _record_push(request: web.Request, repository: str) -> Record[StoredBlob] | None:
    return recorder(request, "push", repository, lambda blob: [EventTarget.blob(blob.digest, blob.size)])


async def _find(request: web.Request, target: Target) -> Upload:
    if not _SESSION.fullmatch(target.reference):  # a database may refuse to search for it
        raise UploadUnknown(target.reference)
    return await request.app[PARTS].uploads.find(target.repository, target.reference, request[PRINCIPAL].key)


@contextlib.asynccontextmanager
async def _arriving(request: web.Request, upload: Upload, digest: str = "") -> AsyncIterator[Arrival]:
    """The target for a request's bytes. If the request breaks off, what arrived is kept; a refusal ends the session."""
    uploads = request.app[PARTS].uploads
    async with uploads.end_on_refusal(upload), uploads.arriving(upload.repository, digest, upload.id) as arrival:
        try:
            yield arrival
        except BodyBroken as error:
            # the client asks how many bytes there are, and continues
            if error.received is not None:
                await uploads.append(upload, error.received)
            raise


async def _describe_received(request: web.Request, arrival: Arrival, hasher: Hasher | None) -> Received:
    """Write the body to the object of `arrival` and describe it. Raises BodyBroken with what arrived."""
    objects = request.app[PARTS].blobs.objects
    async with room_for(request, objects.buffered):
        return await receive(request, objects.writer(arrival.key), arrival, hasher, request.app[SETTINGS].stall_seconds)


def _expected_size(request: web.Request, upload: Upload) -> int | None:
    """The number of bytes that the body's Content-Range announces; raises RangeInvalid if they do not follow on."""
    header = request.headers.get("Content-Range")
    if header is None:
        return None
    found = _RANGE.fullmatch(header.strip(SPACES))
    if found is None:
        raise ContentRangeInvalid(header)
    start, stop = int(found[1]), int(found[2]) + 1
    if start != upload.size:
        raise RangeInvalid(upload.size, f"this chunk begins at byte {start}")
    if stop < start or request.content_length not in (None, stop - start):
        raise RangeInvalid(upload.size, f"Content-Range {start}-{stop - 1} contradicts Content-Length")
    return stop - start


def _check_length(upload: Upload, expected: int | None, size: int) -> None:
    if expected is not None and size != expected:
        raise RangeInvalid(upload.size, f"{size} bytes came although Content-Range says {expected}")


def _location(upload: Upload) -> str:
    return f"/v2/{upload.repository}/blobs/uploads/{upload.id}"


def _state(upload: Upload, status: int) -> web.Response:
    headers = {
        "Location": _location(upload),
        "Range": f"0-{max(upload.size - 1, 0)}",
        "Docker-Upload-UUID": upload.id,
        "Cache-Control": "no-store",
    }
    return web.Response(status=status, headers=headers)


def _answer_accepted(upload: Upload) -> web.Response:
    return _state(upload, 202)


def _answer_created(repository: str, digest: Digest) -> web.Response:
    headers = {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)
