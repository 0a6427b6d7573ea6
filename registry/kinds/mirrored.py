"""Copies of other registries' repositories, read from here or, if something is missing, from those registries."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from auth.permission import Permission
from builder.artifacts.artifact import Artifact
from builder.ticket import Ticket
from registry.errors import NoFiles
from registry.http.manifests import Prepared, Variants, stale_warnings
from registry.http.references import Target, check_tag, is_digest, path_digest
from registry.http.transfer import answer_of_part, content_headers, send_chunks
from registry.kinds import pages
from registry.kinds.kind import Need, need_of
from registry.kinds.stored import accept_header, answer, blob_headers, find_blob, send_blob
from registry.mirror.errors import NothingMirrored
from registry.mirror.names import Source, is_mirror
from registry.mirror.service import Listed, Mirror
from registry.notifications import note_blob_pull
from registry.parts import MEMORY, PARTS, SETTINGS
from storage.blobs.rows import StoredBlob
from storage.digest import Digest
from storage.errors import BlobUnknown


class Mirrored:
    """Every name below `mirror/`, even of registries not mirrored now: a push there could become a copy."""

    listed = True

    def __init__(self, app: web.Application) -> None:
        self._parts = app[PARTS]
        self._memory = app[MEMORY]
        self._mirror = self._parts.mirror

    def owns(self, repository: str) -> bool:
        return is_mirror(repository)

    def scope(self, repository: str) -> str:
        return self._mirror.scope(repository) if self._mirror is not None else repository

    def refusal(self, request: web.Request, repository: str) -> str | None:
        return f"{repository} is reserved for a copy from another registry; push or delete there"

    def needs(self, permission: Permission, repository: str) -> Need:
        # for the copy, not for the name that was used: content that two names read is granted as one
        return need_of(permission, repository, self.scope(repository))

    async def shows(self, repository: str, digest: Digest) -> bool:
        return True

    async def get_manifest(self, request: web.Request, target: Target) -> web.StreamResponse:
        mirror, source = self._find(target)
        memory = self._memory
        stamp = self._parts.changes.stamp(source.scope)
        if is_digest(target.reference):
            digest = path_digest(target.reference)
            prepared = memory.digest(source.scope, digest, stamp)
            if prepared is None:
                prepared = Prepared.of(await mirror.manifest(source, digest, _seconds(request)))
                memory.keep_digest(source.scope, prepared, stamp)
        else:
            variants = memory.tag(source.scope, target.reference, stamp)
            if variants is None:
                tag = check_tag(target.reference)
                tagged = await mirror.find_tagged(source, tag, _seconds(request))
                variants = Variants.of([Prepared.of(tagged.manifest).with_stale(tagged.stale)], tagged.expires)
                memory.keep_tag(source.scope, tag, variants, stamp)
            prepared = variants.choose(accept_header(request))
        mirror.note_pull(source, prepared.digest)
        return answer(request, prepared)

    async def get_blob(self, request: web.Request, target: Target) -> web.StreamResponse:
        mirror, source = self._find(target)
        digest = path_digest(target.reference)
        try:
            return await _send(request, target, source, digest)
        except BlobUnknown:
            pass
        headers = content_headers(digest, blob_headers(request))
        if request.method == "HEAD":
            size = await mirror.blob_size(source, digest, _seconds(request))
            return answer_of_part(request, headers, size)[0]
        download, size = await mirror.blob(source, digest, _seconds(request))
        if "Range" in request.headers:
            # a part is best cut from the whole blob, and a blob can be sent whole only once it is stored
            await download.wait_until_stored(_seconds(request))
        if download.blob is not None:
            return await _send(request, target, source, digest)
        response, span = answer_of_part(request, headers, size)
        if span is not None:
            chunks = download.read(span.start, span.stop)
            await send_chunks(request, response, chunks, request.app[SETTINGS].stall_seconds)
            note_blob_pull(request, target.repository, StoredBlob(digest, size), response.status)
        return response

    async def get_tags(self, request: web.Request, target: Target) -> web.StreamResponse:
        mirror, source = self._find(target)
        listed = await mirror.tags(source, _seconds(request))
        return _warn(pages.answer_tags(request, target, listed.items), listed)

    async def get_referrers(self, request: web.Request, target: Target) -> web.StreamResponse:
        mirror, source = self._find(target)
        listed = await mirror.referrers(source, Digest.parse(target.reference), _seconds(request))
        return _warn(pages.answer_referrers(request, target, listed.items), listed)

    def file_stem(self, repository: str) -> str:
        return ""

    async def find_file(self, request: web.Request, repository: str, tag: str, name: str) -> Ticket[Artifact]:
        raise NoFiles(repository, self._parts.demand.root, name)

    def _find(self, target: Target) -> tuple[Mirror, Source]:
        """The mirror and the source of the target; raises NotMirrored."""
        if self._mirror is None:
            raise NothingMirrored
        return self._mirror, self._mirror.source(target.repository)


async def _send(request: web.Request, target: Target, source: Source, digest: Digest) -> web.StreamResponse:
    """Send the stored blob; raises BlobUnknown."""
    blob = await find_blob(request, source.scope, digest)
    response = await send_blob(request, blob)
    note_blob_pull(request, target.repository, blob, response.status)
    return response


def _seconds(request: web.Request) -> float:
    """How long the client may be kept waiting."""
    return request.app[SETTINGS].answer_within


def _warn(response: web.Response, listed: Listed[Any]) -> web.Response:
    for value in stale_warnings(listed.stale) if listed.stale is not None else ():
        response.headers.add("Warning", value)
    return response
