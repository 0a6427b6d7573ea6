"""What kinds that answer from the database share: manifests, blobs, tags and referrers of a scope."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Mapping

from aiohttp import web

from auth.permission import Permission
from builder.artifacts.artifact import Artifact
from builder.ticket import Ticket
from registry.errors import NoFiles
from registry.http.instant import suits
from registry.http.manifests import Prepared, Variants
from registry.http.ranges import matches
from registry.http.references import Target, check_tag, is_digest, path_digest
from registry.http.transfer import send_content
from registry.kinds import pages
from registry.kinds.kind import Need, need_of
from registry.notifications import note_blob_pull, note_manifest_pull
from registry.observer import PRINCIPAL
from registry.parts import MEMORY, PARTS, SETTINGS
from storage.blobs.rows import StoredBlob
from storage.digest import Digest
from storage.errors import BlobUnknown, ManifestUnknown, ObjectMissing, StorageError
from storage.repositories.pushed import Page, Referrer
from storage.repositories.uses import note_blob_use, note_manifest_use

_OF_ANYBODY = {"Content-Type": "application/octet-stream", "Cache-Control": "max-age=31536000, immutable"}
_OF_THE_SENDER = {**_OF_ANYBODY, "Cache-Control": f"private, {_OF_ANYBODY['Cache-Control']}"}


class StoredKind(abc.ABC):
    """A RepositoryKind whose content is in the database. Subclasses say which names it owns, and resolve its tags."""

    listed = True
    has_files = False
    """Whether images of the builder are here, whose files refer to them once somebody asks."""

    def __init__(self, app: web.Application) -> None:
        self.parts = app[PARTS]
        self.memory = app[MEMORY]

    @abc.abstractmethod
    def owns(self, repository: str) -> bool: ...

    @abc.abstractmethod
    async def answer_tag(self, request: web.Request, repository: str, tag: str, stamp: int) -> web.StreamResponse:
        """Answer a tag that is not in memory. `stamp` is the scope's, taken before the look-up."""

    def scope(self, repository: str) -> str:
        return repository

    def refusal(self, request: web.Request, repository: str) -> str | None:
        return None

    def needs(self, permission: Permission, repository: str) -> Need:
        return need_of(permission, repository)

    async def shows(self, repository: str, digest: Digest) -> bool:
        return True

    async def get_manifest(self, request: web.Request, target: Target) -> web.StreamResponse:
        repository, reference = target.repository, target.reference
        scope = self.scope(repository)
        stamp = self.parts.changes.stamp(scope)
        if is_digest(reference):
            digest = path_digest(reference)
            if not await self.shows(repository, digest):
                # as if it did not exist
                raise ManifestUnknown(scope, digest)
            return answer(request, await find_manifest(request, scope, digest, stamp))
        variants = self.memory.tag(repository, reference, stamp)
        if variants is None:
            return await self.answer_tag(request, repository, check_tag(reference), stamp)
        return answer(request, variants.choose(accept_header(request)))

    async def get_blob(self, request: web.Request, target: Target) -> web.StreamResponse:
        scope, digest = self.scope(target.repository), path_digest(target.reference)
        if not await self.shows(target.repository, digest):
            raise BlobUnknown(digest)
        blob = await find_blob(request, scope, digest)
        try:
            response = await send_blob(request, blob)
        except ObjectMissing:
            if request.writer.output_size > 0:
                raise
            # it may have been collected, and even pushed again, since it was found
            blob = await self.parts.repositories.blob(scope, digest)
            response = await send_blob(request, blob)
        note_blob_pull(request, target.repository, blob, response.status)
        return response

    async def get_tags(self, request: web.Request, target: Target) -> web.StreamResponse:
        """The tags in bytewise order, after `last`, at most `n` of them; with a Link to the rest (RFC 8288)."""
        asked = pages.read_page(request.query)
        found = await self.parts.repositories.tags(self.scope(target.repository), asked.last, asked.limit)
        return pages.answer_tags_page(target, asked.limit, found)

    async def get_referrers(self, request: web.Request, target: Target) -> web.StreamResponse:
        """An image index of the manifests whose subject is the digest; empty, never 404, if there are none."""
        asked = pages.read_referrers_page(request, target)
        if self.has_files and asked.last is None:
            await self._attach_files(request, target.repository, asked.subject)
        page: Page[Referrer] = Page([], more=True)
        last = asked.last
        while page.more and not page.items:
            found = await self.parts.repositories.referrers(
                self.scope(target.repository),
                asked.subject,
                asked.artifact_type,
                last,
                asked.limit,
                pages.REFERRERS_BYTES,
            )
            last = found.items[-1].descriptor.digest if found.items else None
            shown = [each for each in found.items if await self.shows(target.repository, each.descriptor.digest)]
            page = Page(shown, found.more)
        return pages.answer_referrers_page(target, asked, page)

    async def _attach_files(self, request: web.Request, repository: str, subject: Digest) -> None:
        referrers, wait = self.parts.referrers, request.app[SETTINGS].answer_within
        if referrers is not None and await self.shows(repository, subject):
            await referrers.attach(self.scope(repository), subject, wait)

    def file_stem(self, repository: str) -> str:
        return ""

    async def find_file(self, request: web.Request, repository: str, tag: str, name: str) -> Ticket[Artifact]:
        raise NoFiles(repository, self.parts.demand.root, name)


def accept_header(request: web.Request) -> str:
    """All Accept headers as one, since docker sends one for each media type. Without any, everything is accepted."""
    return ",".join(request.headers.getall("Accept", ())) or "*/*"


def answer(request: web.Request, manifest: Prepared) -> web.StreamResponse:
    if "If-None-Match" in request.headers and matches(request.headers["If-None-Match"], manifest.headers["ETag"]):
        return web.Response(status=304, headers=manifest.headers)
    app = request.app
    note_manifest_pull(request, app[PARTS], manifest)
    # if web pages may read, every answer has to say that it varies by origin
    if suits(request) and not app[SETTINGS].cors_origins:
        return manifest.instant
    return web.Response(body=manifest.body, headers=manifest.headers)


def answer_variants(request: web.Request, variants: Variants) -> web.StreamResponse:
    """Answer with the one of `variants` that the client accepts."""
    return answer(request, variants.choose(accept_header(request)))


async def find_manifest(request: web.Request, scope: str, digest: Digest, stamp: int) -> Prepared:
    """Find the manifest `digest` in memory or the database; nothing is built. Raises ManifestUnknown."""
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


async def find_blob(request: web.Request, scope: str, digest: Digest) -> StoredBlob:
    """Find a blob in memory or the database; raises BlobUnknown if `scope` does not have it."""
    app = request.app
    parts, memory = app[PARTS], app[MEMORY]
    stamp = parts.changes.stamp(scope)
    blob = memory.blob(scope, digest, stamp)
    if blob is None:
        blob = await parts.repositories.blob(scope, digest)
        if request.method == "HEAD":
            # a client that finds the blob here will not push it before naming it
            with contextlib.suppress(StorageError):
                await note_blob_use(parts.blobs.database, scope, digest)
        memory.keep_blob(scope, blob, stamp)
    return blob


def blob_headers(request: web.Request) -> Mapping[str, str]:
    """The headers of a blob, which caches that many share may keep only if nobody has to sign in for it.

    A cookie or a proxy may have signed the sender in, which no cache can tell from anybody.
    """
    return _OF_ANYBODY if request[PRINCIPAL].kind == "anonymous" else _OF_THE_SENDER


async def send_blob(request: web.Request, blob: StoredBlob) -> web.StreamResponse:
    """Send the bytes of `blob`, or the requested part; raises ObjectMissing."""
    app = request.app
    stall_seconds = app[SETTINGS].stall_seconds
    return await send_content(request, app[PARTS].blobs, blob, blob_headers(request), stall_seconds=stall_seconds)
