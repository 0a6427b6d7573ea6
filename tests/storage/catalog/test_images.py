"""Images and files: an image is never without its manifests, a file never without its blob, uses are noted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from storage.catalog.parts import Catalog
from storage.clock import USE_SECONDS
from storage.database import tables
from storage.digest import Descriptor, Digest
from storage.errors import BlobUnknown, ManifestBlobUnknown, SizeMismatch
from storage.repositories.rows import Push, StoredManifest
from tests.support.storage.stores import Stores, open_stores

ROOT = "conda-store-dynamic"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
async def stores(tmp_path: Path, database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(tmp_path, url=database_url) as stores:
        yield stores


@pytest.fixture
def catalog(stores: Stores) -> Catalog:
    return stores.catalog


def push(body: bytes, *blobs: bytes, **fields: Any) -> Push:
    """Of an image over blobs of these contents."""
    descriptors = [Descriptor("application/octet-stream", Digest.of(blob), len(blob)) for blob in blobs]
    return Push(StoredManifest.of(OCI_MANIFEST, body), descriptors, **fields)


async def put(stores: Stores, *blobs: bytes) -> None:
    for blob in blobs:
        await stores.blobs.put(Digest.of(blob), [blob])


async def test_an_image_comes_with_its_manifests_and_blobs(stores: Stores, catalog: Catalog) -> None:
    await put(stores, b"config", b"layer")
    image = push(b"{}", b"config", b"layer")
    index = Push(StoredManifest.of(OCI_INDEX, b'{"manifests": []}'), children=[image.manifest.digest])
    await catalog.images.put("image", "lock", {"a": 1}, ROOT, [index, image])
    await catalog.images.put("image", "lock", {"a": 2}, ROOT, [index, image])
    assert await catalog.images.find("image") == {"a": 2}
    assert await catalog.images.find_newest_of_lock("lock") == {"a": 2}
    assert await catalog.images.find("other") is None
    for each in (index, image):
        assert await catalog.images.find_manifest(each.manifest.digest) == each.manifest
    links = await stores.rows(tables.link.select())
    assert {(row.repository, row.digest) for row in links} == {
        (ROOT, Digest.of(b"config")),
        (ROOT, Digest.of(b"layer")),
    }
    kept = await stores.rows(tables.image_manifest.select())
    assert {(row.image, row.digest) for row in kept} == {
        ("image", index.manifest.digest),
        ("image", image.manifest.digest),
    }
    [child] = await stores.rows(tables.manifest_child.select())
    assert (child.manifest, child.digest) == (index.manifest.digest, image.manifest.digest)


async def test_an_image_whose_blobs_are_gone_is_not_there_at_all(stores: Stores, catalog: Catalog) -> None:
    await put(stores, b"config")
    with pytest.raises(ManifestBlobUnknown) as caught:
        await catalog.images.put("image", "lock", {}, ROOT, [push(b"{}", b"config", b"layer")])
    assert caught.value.digests == (Digest.of(b"layer"),)
    await put(stores, b"layer")
    wrong = Descriptor("application/octet-stream", Digest.of(b"layer"), 1)
    with pytest.raises(SizeMismatch):
        await catalog.images.put("image", "lock", {}, ROOT, [Push(StoredManifest.of(OCI_MANIFEST, b"{}"), [wrong])])
    assert await catalog.images.find("image") is None
    assert await catalog.images.find_manifest(Digest.of(b"{}")) is None
    for table in (tables.repository, tables.link, tables.manifest, tables.image_manifest):
        assert await stores.rows(table.select()) == []


async def test_the_newest_image_of_a_lock(stores: Stores, catalog: Catalog) -> None:
    for number in range(3):
        await catalog.images.put(f"image{number}", "lock", {"n": number}, ROOT, [push(f"{number}".encode())])
    assert await catalog.images.find_newest_of_lock("lock") == {"n": 2}
    assert await catalog.images.find_newest_of_lock("other") is None


async def test_a_file_needs_its_blob(stores: Stores, catalog: Catalog) -> None:
    with pytest.raises(BlobUnknown):
        await catalog.artifacts.put("file", "lock", {"a": 1}, Digest.of(b"file"))
    assert await catalog.artifacts.find("file") is None
    await put(stores, b"file")
    for number in range(2):
        await catalog.artifacts.put("file", "lock", {"a": number}, Digest.of(b"file"))
    assert await catalog.artifacts.find("file") == {"a": 1}


async def test_the_same_may_be_recorded_several_times_at_once(stores: Stores, catalog: Catalog) -> None:
    """As by builds for two names of one lock, on two machines."""
    await put(stores, b"file", b"layer")
    await asyncio.gather(
        *(catalog.artifacts.put("file", "lock", {}, Digest.of(b"file")) for _ in range(8)),
        *(catalog.images.put("image", "lock", {}, ROOT, [push(b"{}", b"layer")]) for _ in range(8)),
    )
    assert (await catalog.artifacts.find("file"), await catalog.images.find("image")) == ({}, {})


async def test_use_is_written_down_now_and_then(stores: Stores, catalog: Catalog) -> None:
    await put(stores, b"file")
    await catalog.images.put("key", "lock", {}, ROOT, [push(b"{}")])
    await catalog.artifacts.put("key", "lock", {}, Digest.of(b"file"))
    for part, table in ((catalog.images, tables.image), (catalog.artifacts, tables.artifact)):
        for ago, noted in ((2 * USE_SECONDS, True), (USE_SECONDS / 2, False)):
            before = time.time() - ago
            async with stores.database.writing() as connection:
                await connection.execute(table.update().values(used=before))
            await part.note_use("key")
            await part.note_use("unknown")
            [row] = await stores.rows(table.select())
            assert (row.used > time.time() - 60) is noted
