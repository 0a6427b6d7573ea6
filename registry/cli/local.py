"""The store of this machine, opened for one command."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.settings import Settings
from storage.blobs import FileBlobStore
from storage.catalog import Catalog
from storage.database import migrate, sqlite_url
from storage.digest import Digest
from storage.errors import BlobUnknown

if TYPE_CHECKING:
    from builder.service import BuilderService


@dataclass(frozen=True)
class LocalStore:
    catalog: Catalog
    blobs: FileBlobStore


@contextlib.asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[LocalStore]:
    """The data directory's catalog and blobs; other processes, a server too, may use them at the same time."""
    directory = settings.data_directory
    directory.mkdir(parents=True, exist_ok=True)
    url = sqlite_url(directory / "condery.sqlite")
    await asyncio.to_thread(migrate, url)
    catalog = Catalog.open(url)
    try:
        yield LocalStore(catalog, FileBlobStore(directory))
    finally:
        await catalog.close()


@contextlib.asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[tuple[LocalStore, BuilderService]]:
    """The store, and a builder over it."""
    from builder.service import BuilderService

    async with open_store(settings) as store:
        async with BuilderService.open(
            settings.builder, settings.data_directory, store.catalog, store.blobs
        ) as service:
            yield store, service


async def manifests_below(catalog: Catalog, digest: Digest) -> dict[str, bytes]:
    """The manifest or index `digest` and the manifests it names, by digest; raises BlobUnknown."""
    stored = await catalog.manifest(digest)
    if stored is None:
        raise BlobUnknown(digest)
    found: dict[str, bytes] = {digest: stored.body}
    for entry in json.loads(stored.body).get("manifests", ()):
        found |= await manifests_below(catalog, Digest.parse(entry["digest"]))
    return found
