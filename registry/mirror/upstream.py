"""Requests to another registry (distribution-spec, "Pull" and "Content Discovery"), and checks of its answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, TypeVar

import aiohttp
from yarl import URL

from registry.errors import TagInvalid
from registry.http.references import check_tag, is_digest
from registry.mirror.client import UpstreamClient, parse_json, read_limited, refusal
from registry.mirror.errors import BlobLacking, RepositoryLacking, UpstreamFailed, UpstreamLacks, UpstreamLies
from registry.mirror.names import Source
from storage.digest import Descriptor, Digest
from storage.errors import DigestInvalid, JsonInvalid, ManifestInvalid
from storage.oci import OCI_INDEX
from storage.repositories.manifest_document import KINDS, ManifestDocument, read_manifest
from storage.repositories.rows import Push, StoredManifest

T = TypeVar("T")

MANIFEST_BYTES = 4 << 20
LIST_BYTES = 16 << 20
MOST_PAGES = 1000
TAGS_ASKED = 1000
"""Tags per page; registries have limits of their own, and some ignore this."""

LONGEST_REFERRERS_TAG = 128
"""Longer tags are cut off: sha512 has 128 digits."""

_ACCEPT = ", ".join(KINDS)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")


@dataclass(frozen=True)
class BlobStream:
    """A blob's bytes as they arrive; the first `skip` are to be dropped. `size` is the whole blob's, if known."""

    content: aiohttp.StreamReader
    size: int | None
    skip: int = 0


class Upstream:
    """The content of other registries. Raises MirrorError.

    Whatever an answer says is read while it is held: what is raised then repeats no secret that was sent for it.
    """

    def __init__(self, client: UpstreamClient) -> None:
        self._client = client

    async def account_of(self, source: Source) -> str:
        """As `UpstreamClient.account_of`. Whoever is asked with another login may answer something else."""
        return await self._client.account_of(source)

    # manifests

    async def find_tag_digest(self, source: Source, tag: str) -> Digest | None:
        """The digest that the tag points to, or None if a HEAD does not tell. Does not count as a pull.

        Some registries answer a HEAD differently from the GET, so only a digest in the answer means anything.
        UpstreamLimits is raised all the same: a registry that limits requests must not be asked again.
        """
        async with self._ask("HEAD", source, f"manifests/{tag}", {"Accept": _ACCEPT}) as response:
            if response.status == HTTPStatus.TOO_MANY_REQUESTS:
                raise await refusal(source, response, f"manifest {tag}")
            if response.status != HTTPStatus.OK:
                return None
            with contextlib.suppress(UpstreamFailed):
                return _read_digest(source, response)
        return None

    async def manifest(self, source: Source, reference: str, known: Digest | None = None) -> Push | None:
        """The manifest at a tag or digest; None if that is still `known`. What it names need not be here."""
        headers = {"Accept": _ACCEPT, **({"If-None-Match": f'"{known}"'} if known else {})}
        what = f"manifest {reference}"
        async with self._ask("GET", source, f"manifests/{reference}", headers) as response:
            if known and response.status == HTTPStatus.NOT_MODIFIED:
                return None
            if response.status != HTTPStatus.OK:
                raise await refusal(source, response, what)
            body = await read_limited(source, response, MANIFEST_BYTES)
            wanted = Digest.parse(reference) if is_digest(reference) else _read_digest(source, response)
            digest = await asyncio.to_thread(Digest.of, body, wanted.algorithm if wanted else "sha256")
            if wanted and digest != wanted:
                raise UpstreamLies(source.registry, f"sent content with digest {digest} for {what}, which is {wanted}")
            document = await _document(source, what, response.headers.get("Content-Type"), body)
        return Push(
            StoredManifest(digest, document.media_type, body),
            optional_blobs=[*document.blobs, *document.optional_blobs],
            children=[child.digest for child in document.children],
            subject=document.subject.digest if document.subject else None,
            artifact_type=document.artifact_type,
            annotations=document.annotations,
        )

    # blobs

    async def blob_size(self, source: Source, digest: Digest) -> int | None:
        """The size of a blob that the registry has; None if it does not state it.

        If a HEAD does not settle it, a GET of the first byte does: a storage service that a registry redirects to
        refuses a HEAD whose URL is signed for a GET, and some registries refuse a HEAD themselves.
        """
        async with self._ask("HEAD", source, f"blobs/{digest}") as response:
            if response.status == HTTPStatus.TOO_MANY_REQUESTS:
                raise await refusal(source, response, f"blob {digest}", BlobLacking)
            if response.status == HTTPStatus.OK and response.content_length is not None:
                return response.content_length
        async with self._ask("GET", source, f"blobs/{digest}", {"Range": "bytes=0-0"}) as response:
            if response.status == HTTPStatus.OK:
                return response.content_length
            return _whole_size(await _part(source, digest, response, 0))

    @contextlib.asynccontextmanager
    async def blob(self, source: Source, digest: Digest, start: int = 0) -> AsyncIterator[BlobStream]:
        """Yield the blob from `start` on. Errors while the block reads it are raised as MirrorError, too."""
        if start:
            async with self._ask("GET", source, f"blobs/{digest}", {"Range": f"bytes={start}-"}) as response:
                if response.status == HTTPStatus.OK:
                    yield BlobStream(response.content, response.content_length, start)
                    return
                # a registry that serves no parts may serve the whole
                if response.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    size = _whole_size(await _part(source, digest, response, start))
                    yield BlobStream(response.content, size)
                    return
        async with self._ask("GET", source, f"blobs/{digest}") as response:
            if response.status != HTTPStatus.OK:
                raise await refusal(source, response, f"blob {digest}", BlobLacking)
            yield BlobStream(response.content, response.content_length, start)

    # lists

    async def tags(self, source: Source) -> list[str]:
        """All tags, sorted by code point."""
        found: set[str] = set()
        path = f"tags/list?n={TAGS_ASKED}"
        async for page in self._pages(source, path, "list of tags", "application/json", _tags):
            found.update(page)
        return sorted(found)

    async def referrers(self, source: Source, subject: Digest) -> list[Descriptor]:
        """All manifests with this subject, sorted by digest; from a tag if the registry lacks the referrers API."""
        found: dict[Digest, Descriptor] = {}
        try:
            async for page in self._pages(source, f"referrers/{subject}", "list of referrers", OCI_INDEX, _entries):
                found.update((each.digest, each) for each in page)
        except UpstreamLacks:
            found = {each.digest: each for each in await self._referrers_by_tag(source, subject)}
        return [found[digest] for digest in sorted(found)]

    async def _referrers_by_tag(self, source: Source, subject: Digest) -> list[Descriptor]:
        """The referrers from a tag (distribution-spec, "Referrers Tag Schema")."""
        path = f"manifests/{subject.algorithm}-{subject.hex}"[: len("manifests/") + LONGEST_REFERRERS_TAG]
        try:
            return [
                each
                async for page in self._pages(source, path, "list of referrers", OCI_INDEX, _entries)
                for each in page
            ]
        except UpstreamLacks:
            return []

    async def _pages(
        self, source: Source, path: str, what: str, accept: str, read: Callable[[Source, _Page], Awaitable[Sequence[T]]]
    ) -> AsyncIterator[Sequence[T]]:
        """The entries of each page, as `read` finds them."""
        url = self._client.url(source, path)
        home = url.origin()
        for _ in range(MOST_PAGES):
            async with self._client.send("GET", source, url, {"Accept": accept}) as response:
                if response.status != HTTPStatus.OK:
                    raise await refusal(source, response, what, RepositoryLacking)
                body = await read_limited(source, response, LIST_BYTES)
                page = await read(source, _Page(response.headers.get("Content-Type"), body))
                rest = response.links.get("next")
                url = URL(rest["url"]) if rest is not None else url
                if url.origin() != home:
                    raise UpstreamFailed(source.registry, f"has the rest of its {what} at {url.host}")
            yield page
            if rest is None:
                return
        raise UpstreamFailed(source.registry, f"has a {what} of more than {MOST_PAGES} pages")

    def _ask(
        self, method: str, source: Source, path: str, headers: dict[str, str] | None = None
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._client.send(method, source, self._client.url(source, path), headers)


async def _part(source: Source, digest: Digest, response: aiohttp.ClientResponse, start: int) -> re.Match[str]:
    """The Content-Range of a part that begins at `start`; raises the error that any other answer means."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        raise await refusal(source, response, f"blob {digest}", BlobLacking)
    if found is None or int(found[1]) != start:
        raise UpstreamFailed(source.registry, f"answered with another part of blob {digest} than was requested")
    return found


def _whole_size(content_range: re.Match[str]) -> int | None:
    """The size of the whole, from a part's header (RFC 9110, section 14.4); None for `*`."""
    return int(content_range[2]) if content_range[2] != "*" else None


class _Page(NamedTuple):
    content_type: str | None
    body: bytes


async def _tags(source: Source, page: _Page) -> list[str]:
    """Those that are valid tags; null counts as an empty list, as Go writes it."""
    document = await parse_json(source, page.body)
    names = document.get("tags") if isinstance(document, dict) else None
    return [name for name in names if _is_tag(name)] if isinstance(names, list) else []


async def _entries(source: Source, page: _Page) -> list[Descriptor]:
    document = await _document(source, "list of referrers", page.content_type, page.body)
    return [*document.children, *document.optional_blobs] if document.kind == "index" else []


async def _document(source: Source, what: str, content_type: str | None, body: bytes) -> ManifestDocument:
    try:
        return await asyncio.to_thread(read_manifest, content_type, body, "the Content-Type of its answer")
    except (JsonInvalid, ManifestInvalid) as error:
        raise UpstreamFailed(source.registry, f"has an unacceptable {what} in {source.repository}: {error}") from None


def _read_digest(source: Source, response: aiohttp.ClientResponse) -> Digest | None:
    text = response.headers.get("Docker-Content-Digest")
    try:
        return Digest.parse(text) if text is not None else None
    except DigestInvalid as error:
        raise UpstreamFailed(source.registry, f"answered with an invalid header: {error}") from None


def _is_tag(name: object) -> bool:
    try:
        return isinstance(name, str) and check_tag(name) == name
    except TagInvalid:
        return False
