"""A builder on its own data directory, and small channels for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from rattler.index import index_fs

from builder.channels.logins import NamespaceCredentials
from builder.image.finished import FinishedImage
from builder.names.image_name import parse_specs
from builder.names.spec import EnvironmentSpec
from builder.policy.settings import PolicySettings
from builder.queue.hooks import find_no_room
from builder.service import BuilderService
from builder.settings import BuilderSettings
from storage.environments.parts import EnvironmentStore
from storage.events.changes import Changes
from storage.objects.protocol import ObjectStore
from storage.oci import OCI_MANIFEST
from storage.repositories.pushed import Repositories
from tests.support.builder.packages import Package
from tests.support.storage.stores import open_stores


async def make_channel(directory: Path, packages: Sequence[Package]) -> str:
    """Make an indexed channel of `packages`; returns its URL."""
    for package in packages:
        package.conda(directory)
    (directory / "noarch").mkdir(parents=True, exist_ok=True)
    await index_fs(directory, write_zst=True, write_shards=True)
    return directory.as_uri()


@contextlib.asynccontextmanager
async def open_service(
    root: Path,
    channel: str,
    *,
    joins: bool = True,
    objects: ObjectStore | None = None,
    rules: PolicySettings | None = None,
    credentials: NamespaceCredentials | None = None,
    url: str | None = None,
    make_room: Callable[[], bool] = find_no_room,
    **settings: Any,
) -> AsyncIterator[BuilderService]:
    values: dict[str, Any] = {"base": "scratch", "repodata_refresh": 0, "workers": 2} | settings
    chosen = BuilderSettings(**{"channels": (channel,), **values})
    async with open_stores(root, joins=joins, objects=objects, url=url) as stores:
        changes = Changes(root / "changes")
        room = Repositories(stores.database, changes).room
        async with BuilderService.open(
            chosen,
            root,
            stores.catalog,
            stores.blobs,
            rules=rules,
            credentials=credentials,
            environments=EnvironmentStore.of(stores.blobs, changes, room),
            make_room=make_room,
        ) as service:
            yield service


def spec_of(service: BuilderService, *specs: str) -> EnvironmentSpec:
    return parse_specs(specs, service.builder.settings)


async def manifest_of(service: BuilderService, image: FinishedImage, media_type: str = OCI_MANIFEST) -> dict[str, Any]:
    """The document of the only manifest of `image` with this media type."""
    (descriptor,) = [variant for variant in image.variants if variant.media_type == media_type]
    stored = await service.builder.catalog.images.find_manifest(descriptor.digest)
    assert stored is not None
    assert stored.media_type == media_type
    document: dict[str, Any] = json.loads(stored.body)
    return document
