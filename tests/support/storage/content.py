"""A store with repositories and upload sessions, and what clients do to it, without HTTP in between."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from storage.blobs.joins import Join, Layer
from storage.blobs.rows import StoredBlob
from storage.database import tables
from storage.digest import Descriptor, Digest, new_hasher
from storage.events.changes import Changes
from storage.garbage.collection import CollectionReport, Garbage
from storage.garbage.rules import GarbagePolicy
from storage.objects.protocol import ObjectStore, writing
from storage.quotas.limits import Limits
from storage.repositories.pushed import Repositories
from storage.repositories.rows import Push, StoredManifest
from storage.repositories.uploads import Received, Upload, Uploads
from tests.support.storage.stores import Stores, open_stores, put_layers

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ROOT = "on-demand"

AT_ONCE = GarbagePolicy(
    root=ROOT, grace=-1, linger=0, upload_seconds=-1, untagged_for=-1, image_retention=-1, copy_retention=-1
)
"""Whatever is not needed is garbage at once."""

NEVER = GarbagePolicy(root=ROOT, linger=0)
"""What is not needed does not become garbage within a test."""


@dataclass(frozen=True)
class Content:
    stores: Stores
    changes: Changes
    repositories: Repositories
    uploads: Uploads

    def garbage(self, policy: GarbagePolicy = AT_ONCE) -> Garbage:
        return Garbage(self.stores.blobs, self.changes, policy)

    async def collect(self, policy: GarbagePolicy = AT_ONCE) -> CollectionReport:
        return await self.garbage(policy).collect()

    # what clients do

    async def push_blob(self, repository: str, data: bytes) -> Digest:
        """Push in a single request."""
        digest = Digest.of(data)
        async with self.stores.blobs.pending() as key:
            received = self.receive(key, data)
            await self.uploads.store(repository, digest, received)
        return digest

    def receive(self, key: str, data: bytes) -> Received:
        hasher = new_hasher("sha256")
        hasher.update(data)
        with writing(self.stores.objects, key) as writer:
            writer.write(data)
        return Received(key, len(data), hasher)

    async def chunk(self, upload: Upload, data: bytes) -> Upload:
        async with self.stores.blobs.pending() as key:
            with writing(self.stores.objects, key) as writer:
                writer.write(data)
            return await self.uploads.append(upload, Received(key, len(data)))

    async def link(self, repository: str, blob: StoredBlob) -> None:
        async with self.stores.database.writing() as connection:
            await self.repositories.link(connection, repository, blob)

    async def push_manifest(
        self,
        repository: str,
        tag: str | None = None,
        *,
        blobs: Sequence[bytes] = (),
        children: Sequence[Digest] = (),
        subject: Digest | None = None,
        name: str = "",
    ) -> Digest:
        """Push a manifest of blobs given by their content; `name` makes it differ from another with the same blobs."""
        push = push_of(blobs, children, subject, name)
        await self.repositories.put_manifest(repository, push, [tag] if tag else [])
        return push.manifest.digest

    async def push_image(self, repository: str, tag: str | None, *layers: bytes) -> Digest:
        for layer in layers:
            await self.push_blob(repository, layer)
        return await self.push_manifest(repository, tag, blobs=layers)

    async def make_image(self, key: str, *layers: bytes) -> list[Digest]:
        """Make an on-demand image with two manifests and an index over the first; returns their digests."""
        for layer in layers:
            await self.stores.blobs.put(Digest.of(layer), [layer])
        manifest, docker = (push_of(layers, name=f"{key} {kind}") for kind in ("oci", "docker"))
        index = push_of((), [manifest.manifest.digest], name=f"{key} index")
        pushes = [index, manifest, docker]
        await self.stores.catalog.images.put(key, "lock", {}, ROOT, pushes)
        return [push.manifest.digest for push in pushes]

    async def put_join(self, key: str, *parts: bytes | str) -> Digest:
        """Store a layer of fragments, given by their keys, and bytes."""
        found = [self.stores.fragment(part, part.encode() * 10) if isinstance(part, str) else part for part in parts]
        data = b"".join(part.encode() * 10 if isinstance(part, str) else part for part in parts)
        layer = Layer(key, Join(Digest.of(data), tuple(found)), Digest.of(b"diff" + data), len(data))
        await put_layers(self.stores.layers, layer)
        return layer.join.digest

    # what exists

    async def count(self, table: Any, *where: Any) -> int:
        return int((await self.stores.rows(select(func.count()).select_from(table).where(*where)))[0][0])

    async def counts(self) -> dict[str, int]:
        """The number of rows in each table that the garbage collection deletes from, empty tables left out."""
        found = {table.name: await self.count(table) for table in KEPT}
        return {name: count for name, count in found.items() if count}

    async def manifests(self, repository: str) -> set[str]:
        table = tables.repository_manifest
        return {row.digest for row in await self.stores.rows(select(table).where(table.c.repository == repository))}

    async def tags(self, repository: str) -> list[str]:
        return (await self.repositories.tags(repository, None, 1000)).items

    async def blobs(self) -> set[str]:
        return {blob.digest for blob in await self.stores.stored()}

    async def change(self, table: Any, *where: Any, **values: Any) -> None:
        async with self.stores.database.writing() as connection:
            await connection.execute(table.update().where(*where).values(**values))

    async def assert_sound(self) -> None:
        """Check that every blob has its bytes and every manifest its blobs, and that no other object is stored."""
        stored = await self.stores.stored()
        for blob in stored:
            assert Digest.of(b"".join(self.stores.blobs.read(blob))) == blob.digest
        parts = [row.key for row in await self.stores.rows(select(tables.upload_part))]
        keys = [blob.key for blob in stored if blob.key]
        pending = await self.stores.pending()
        assert set(self.stores.files()) - set(pending) == {*keys, *parts}


KEPT = (
    tables.upload,
    tables.upload_part,
    tables.tag,
    tables.image,
    tables.image_manifest,
    tables.artifact,
    tables.repository_manifest,
    tables.manifest_blob,
    tables.manifest_child,
    tables.link,
    tables.blob,
    tables.fragment_use,
    tables.layer,
    tables.manifest,
    tables.repository,
    tables.pending,
)


def push_of(
    blobs: Sequence[bytes], children: Sequence[Digest] = (), subject: Digest | None = None, name: str = ""
) -> Push:
    descriptors = [Descriptor(LAYER, Digest.of(blob), len(blob)) for blob in blobs]
    body = json.dumps([name, [each.digest for each in descriptors], list(children), subject]).encode()
    return Push(StoredManifest.of(MANIFEST, body), blobs=descriptors, children=children, subject=subject)


@contextlib.asynccontextmanager
async def open_content(
    root: Path, *, url: str | None = None, objects: ObjectStore | None = None, limits: Limits | None = None
) -> AsyncIterator[Content]:
    async with open_stores(root, url=url, objects=objects) as stores:
        changes = Changes(root / "changes")
        repositories = Repositories(stores.database, changes, limits)
        yield Content(stores, changes, repositories, Uploads(stores.blobs, repositories))
