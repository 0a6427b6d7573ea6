"""Copies of other registries' content: served while fresh, refreshed when stale, and served stale when that fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

import structlog
from aiohttp.abc import AbstractResolver
from cachetools import LRUCache, TLRUCache

from builder.remote.logins import Login
from builder.work.single_flight import SingleFlight
from registry.mirror.client import OwnCredentials, UpstreamClient
from registry.mirror.download import Download
from registry.mirror.errors import (
    BlobFailed,
    MirrorError,
    NotMirrored,
    UpstreamFailed,
    UpstreamLacks,
    UpstreamLimits,
    UpstreamSlow,
)
from registry.mirror.fetching import Fetching
from registry.mirror.names import Source, source_of
from registry.mirror.settings import MirrorSettings
from registry.mirror.upstream import Upstream
from storage.blobs.store import BlobStore
from storage.clock import USE_SECONDS
from storage.digest import Digest
from storage.errors import ConderyError, QuotaExceeded, RepositoryUnknown, SizeMismatch
from storage.repositories.mirrored import MirroredContent, TaggedCopy
from storage.repositories.pushed import Referrer, Repositories
from storage.repositories.rows import Push, StoredManifest
from storage.use_notes import UseNotes

T = TypeVar("T")

MOST_REMEMBERED = 10_000
LONGEST_LIMIT = 600.0
"""The longest pause in seconds after a registry limits requests, even if it asks for a longer one."""


LISTED = 1_000_000
"""The most tags and referrers kept in memory."""

STORED_LISTED = 10_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Tagged:
    """What a tag points to until `expires` (UNIX seconds); `stale` is the reason why that may be outdated."""

    manifest: StoredManifest
    expires: float
    stale: str | None = None


@dataclass(frozen=True)
class Listed(Generic[T]):
    """A whole list, sorted; `stale` is the reason why it may be outdated."""

    items: Sequence[T]
    stale: str | None = None


@dataclass(frozen=True)
class _Kept:
    items: Sequence[Any]
    until: float


class _Key(NamedTuple):
    """A question to a registry, and with which credential it is asked. What is remembered of one is no other's."""

    kind: str
    source: Source
    reference: str
    account: str


class Mirror:
    """Repositories of other registries. Raises MirrorError for whatever cannot be delivered, for any reason.

    `seconds` is how long a caller waits for a registry. The request goes on afterwards, for the next caller.
    """

    def __init__(
        self,
        settings: MirrorSettings,
        upstream: Upstream,
        content: MirroredContent,
        repositories: Repositories,
        fetching: Fetching,
    ) -> None:
        self._settings = settings
        self._upstream = upstream
        self._content = content
        self._repositories = repositories
        self._fetching = fetching
        self._asking: SingleFlight[_Key, Any] = SingleFlight()
        self._failures: TLRUCache[_Key, MirrorError] = TLRUCache(
            MOST_REMEMBERED, lambda _, error, now: now + self._memory(error)
        )
        self._lists: LRUCache[_Key, _Kept] = LRUCache(LISTED, lambda kept: len(kept.items) + 1)
        note_seconds = min(USE_SECONDS, (settings.mirror_keep or USE_SECONDS) / 4)
        self._pulls: UseNotes[tuple[str, Digest]] = UseNotes(self._write_pull, note_seconds, "pull not recorded")

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: MirrorSettings,
        blobs: BlobStore,
        repositories: Repositories,
        directory: Path,
        *,
        logins: Mapping[str, Login],
        insecure: Sequence[str],
        resolver: AbstractResolver | None = None,
        own: OwnCredentials | None = None,
    ) -> AsyncIterator[Self]:
        """`directory` holds content in transit; `resolver` defaults to the system's.

        `logins` are those of the settings, by registry; those of `own` go before them.
        """
        async with UpstreamClient.open(
            internal=settings.mirror_internal_hosts,
            logins=logins,
            insecure=insecure,
            seconds=settings.mirror_stall_seconds,
            resolver=resolver,
            own=own,
        ) as client:
            upstream = Upstream(client)
            content = MirroredContent(blobs.database, repositories)
            fetching = Fetching(upstream, content, repositories, blobs, directory)
            mirror = cls(settings, upstream, content, repositories, fetching)
            try:
                yield mirror
            finally:
                await mirror._asking.close()
                await fetching.close()
                await mirror._pulls.close()

    def source(self, repository: str) -> Source:
        """The source of a name under `mirror/`; raises NotMirrored."""
        return source_of(repository, self._settings.mirrors)

    def scope(self, repository: str) -> str:
        """The repository in the database for a name under `mirror/`."""
        try:
            return self.source(repository).scope
        except NotMirrored:
            return repository

    # manifests

    async def find_tagged(self, source: Source, tag: str, seconds: float) -> Tagged:
        """Resolve the tag: from the copy while it is fresh or the registry fails, otherwise from the registry."""
        copy = await self._content.find_tagged(source.scope, tag)
        if copy is not None and self._is_fresh(copy):
            return self._fresh(copy)
        patience = seconds if copy is None else min(seconds, self._settings.mirror_patience)
        try:
            key = await self._key("tag", source, tag)
            return await self._ask(key, lambda: self._refresh(source, tag), patience)
        except UpstreamLacks:
            raise
        except (MirrorError, QuotaExceeded) as error:
            if copy is None:
                raise
            log.warning("stale copy served", repository=source.scope, tag=tag, reason=str(error))
            return Tagged(copy.manifest, time.time() + self._settings.mirror_retry_after, str(error))

    def _is_fresh(self, copy: TaggedCopy) -> bool:
        return 0 <= time.time() - copy.confirmed < self._settings.mirror_fresh_for

    def _fresh(self, copy: TaggedCopy) -> Tagged:
        return Tagged(copy.manifest, copy.confirmed + self._settings.mirror_fresh_for)

    async def _refresh(self, source: Source, tag: str) -> Tagged:
        copy = await self._content.find_tagged(source.scope, tag)
        if copy is not None and self._is_fresh(copy):
            # another request has asked and got the answer since this caller looked
            return self._fresh(copy)
        asked = time.time()
        return self._fresh(TaggedCopy(await self._ask_upstream(source, tag, copy), asked))

    async def _ask_upstream(self, source: Source, tag: str, copy: TaggedCopy | None) -> StoredManifest:
        """Ask the registry for the tag, and store and tag its manifest."""
        try:
            meant = await self._upstream.find_tag_digest(source, tag) if copy else None
            if meant is not None and (manifest := await self._confirm(source, tag, meant)):
                return manifest
            push = await self._fetch_tagged(source, tag, meant, copy.manifest.digest if copy else None)
        except UpstreamLacks:
            if copy is not None:
                await self._content.drop_tag(source.scope, tag)
            raise
        if push is None:
            assert copy is not None, "only what is here can be unchanged"
            await self._content.confirm(source.scope, tag, copy.manifest.digest)
            return copy.manifest
        return await self._store(source, push, tag)

    async def _fetch_tagged(self, source: Source, tag: str, meant: Digest | None, known: Digest | None) -> Push | None:
        """The tag's manifest, fetched by the digest `meant` that a HEAD gave, unless that does not exist."""
        if meant is not None:
            with contextlib.suppress(UpstreamLacks):
                return await self._upstream.manifest(source, meant, known)
        return await self._upstream.manifest(source, tag, known)

    async def _confirm(self, source: Source, tag: str, digest: Digest) -> StoredManifest | None:
        """The manifest that the tag points to as of now; None if it is not here."""
        if not await self._content.confirm(source.scope, tag, digest):
            return None
        return await self._repositories.manifest(source.scope, digest)

    async def manifest(self, source: Source, digest: Digest, seconds: float) -> StoredManifest:
        stored = await self._repositories.manifest(source.scope, digest)
        if stored is not None:
            return stored
        key = await self._key("manifest", source, digest)
        return await self._ask(key, lambda: self._fetch(source, digest), seconds)

    async def _fetch(self, source: Source, digest: Digest) -> StoredManifest:
        stored = await self._repositories.manifest(source.scope, digest)
        if stored is not None:
            return stored
        push = await self._upstream.manifest(source, digest)
        assert push is not None, "nothing was said to be here"
        return await self._store(source, push)

    async def _store(self, source: Source, push: Push, tag: str | None = None) -> StoredManifest:
        try:
            await self._content.put_manifest(source.scope, push, tag)
        except SizeMismatch as error:
            raise UpstreamFailed(source.registry, f"has an invalid manifest: {error}") from None
        return push.manifest

    def note_pull(self, source: Source, digest: Digest) -> None:
        """Record, now and then and not in the request, that a manifest is still pulled."""
        self._pulls.note((source.scope, digest), repository=source.scope, digest=digest)

    async def _write_pull(self, what: tuple[str, Digest]) -> None:
        await self._content.note_pull(*what)

    # blobs

    async def blob(self, source: Source, digest: Digest, seconds: float) -> tuple[Download, int]:
        """Start the download of a blob that is not here yet, and return it with its size; also raises QuotaExceeded."""
        download = self._fetching.download(source, digest)
        with _of_a_blob():
            return download, await download.wait_for_size(seconds)

    async def blob_size(self, source: Source, digest: Digest, seconds: float) -> int:
        """The size of a blob that is not here yet, from the registry that has it or the manifests that name it."""
        running = self._fetching.running(source, digest)
        with _of_a_blob():
            if running is not None:
                return await running.wait_for_size(seconds)
            key = await self._key("blob", source, digest)
            size: int | None = await self._ask(key, lambda: self._upstream.blob_size(source, digest), seconds)
            if size is None:
                sizes = await self._content.sizes(source.scope, digest)
                if len(sizes) != 1:
                    raise UpstreamFailed(source.registry, f"does not state the size of blob {digest}")
                (size,) = sizes
            return size

    # lists

    async def tags(self, source: Source, seconds: float) -> Listed[str]:
        """All tags of the registry; if it fails, the last list, or the tags of the copies here."""

        async def read_stored() -> Sequence[str]:
            return (await self._repositories.tags(source.scope, None, STORED_LISTED)).items

        key = await self._key("tags", source)
        return await self._list(key, lambda: self._upstream.tags(source), read_stored, seconds)

    async def referrers(self, source: Source, subject: Digest, seconds: float) -> Listed[Referrer]:
        """All manifests at the registry whose subject is `subject`; if it fails, like `tags`."""

        async def ask() -> Sequence[Referrer]:
            return [Referrer(each, each.artifact_type) for each in await self._upstream.referrers(source, subject)]

        async def read_stored() -> Sequence[Referrer]:
            return (await self._repositories.referrers(source.scope, subject, None, None, STORED_LISTED)).items

        return await self._list(await self._key("referrers", source, subject), ask, read_stored, seconds)

    async def _list(
        self,
        key: _Key,
        ask: Callable[[], Awaitable[Sequence[T]]],
        read_stored: Callable[[], Awaitable[Sequence[T]]],
        seconds: float,
    ) -> Listed[T]:
        kept = self._lists.get(key)
        now = time.monotonic()
        if kept is not None and now < kept.until:
            return Listed(kept.items)
        patience = seconds if kept is None else min(seconds, self._settings.mirror_patience)
        try:
            items = await self._ask(key, ask, patience)
        except UpstreamLacks:
            self._lists.pop(key, None)
            raise
        except MirrorError as error:
            try:
                old = kept.items if kept is not None else await read_stored()
            except RepositoryUnknown:
                raise error from None
            log.warning("stale list served", repository=key.source.scope, reason=str(error))
            return Listed(old, str(error))
        if len(items) < LISTED:
            self._lists[key] = _Kept(items, time.monotonic() + self._settings.mirror_fresh_for)
        return Listed(items)

    # asking

    async def _key(self, kind: str, source: Source, reference: str = "") -> _Key:
        """Everything that an answer depends on: with another login it may be another one."""
        return _Key(kind, source, reference, await self._upstream.account_of(source))

    async def _ask(self, key: _Key, ask: Callable[[], Awaitable[T]], seconds: float) -> T:
        """The result of `ask`, called once for all who want `key` at the same time, and not again for a while after a
        failure.
        """
        if (failure := self._failures.get(key)) is not None:
            raise failure.for_another() from failure.__cause__
        try:
            async with asyncio.timeout(seconds):
                answer = await self._asking.do(key, lambda: self._outcome(key, ask))
        except TimeoutError:
            raise UpstreamSlow(key.source.registry, seconds) from None
        if isinstance(answer, ConderyError):
            raise answer.for_another() from answer.__cause__
        result: T = answer
        return result

    async def _outcome(self, key: _Key, ask: Callable[[], Awaitable[T]]) -> T | ConderyError:
        """The result or the error, as a value, since nobody may be waiting for it any more."""
        try:
            return await ask()
        except ConderyError as error:
            if isinstance(error, MirrorError) and not isinstance(error, UpstreamLacks):
                self._failures[key] = error
            return error

    def _memory(self, error: MirrorError) -> float:
        """How many seconds to remember a failure."""
        if isinstance(error, UpstreamLimits) and error.retry_after is not None:
            return min(error.retry_after, LONGEST_LIMIT)
        return self._settings.mirror_retry_after


@contextlib.contextmanager
def _of_a_blob() -> Iterator[None]:
    """Turn a registry's failures into failures of a blob, which clients tell from those of a manifest."""
    try:
        yield
    except UpstreamLimits:
        raise
    except MirrorError as error:
        raise BlobFailed(error.registry, error.reason) from error
