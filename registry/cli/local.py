"""This machine's store, opened for one command."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from registry.settings.model import Settings
from storage.catalog.parts import Catalog
from storage.digest import Digest
from storage.errors import BlobUnknown
from storage.store import Store, open_store

if TYPE_CHECKING:
    from builder.service import BuilderService


@contextlib.asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[tuple[Store, BuilderService]]:
    """Open the store and a builder on it. The builder accepts every channel, since the user owns the store."""
    async with open_store(settings.storage) as store, open_builder(settings, store) as service:
        yield store, service


def open_builder(settings: Settings, store: Store) -> contextlib.AbstractAsyncContextManager[BuilderService]:
    """Open a builder on `store`. It accepts every channel as well."""
    from builder.service import BuilderService
    from storage.catalog.credentials import NamespaceCredentials
    from storage.vault.vault import Vault

    vault = Vault.open(settings.vault.vault_keys, settings.vault.vault_key_file)
    return BuilderService.open(
        settings.builder,
        settings.data_directory,
        store.catalog,
        store.blobs,
        others="all",
        rules=settings.policy,
        credentials=NamespaceCredentials(store.database, store.changes, vault),
        environments=store.environments,
    )


async def manifests_below(catalog: Catalog, digest: Digest) -> dict[str, bytes]:
    """The manifest or index `digest` and the manifests that it names, by digest. Raises BlobUnknown."""
    stored = await catalog.images.find_manifest(digest)
    if stored is None:
        raise BlobUnknown(digest)
    found: dict[str, bytes] = {digest: stored.body}
    for entry in json.loads(stored.body).get("manifests", ()):
        found |= await manifests_below(catalog, Digest.parse(entry["digest"]))
    return found
