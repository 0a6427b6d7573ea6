"""The catalog's promises: an image never without its manifests, later solves win."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from storage.catalog.catalog import USE_SECONDS, Catalog
from storage.database import tables
from storage.database.engine import NEWEST, migrations
from storage.digest import Descriptor, Digest
from storage.errors import BlobUnknown, ManifestBlobUnknown, SizeMismatch
from storage.repositories.repositories import Push, StoredManifest
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


def push(body: bytes, *blobs: bytes, **fields: object) -> Push:
    """Of an image over blobs of these contents."""
    descriptors = [Descriptor("application/octet-stream", Digest.of(blob), len(blob)) for blob in blobs]
    return Push(StoredManifest.of(OCI_MANIFEST, body), descriptors, **fields)  # type: ignore[arg-type]


async def put(stores: Stores, *blobs: bytes) -> None:
    for blob in blobs:
        await stores.blobs.put(Digest.of(blob), [blob])


# images and files


async def test_an_image_comes_with_its_manifests_and_blobs(stores: Stores, catalog: Catalog) -> None:
    await put(stores, b"config", b"layer")
    image = push(b"{}", b"config", b"layer")
    index = Push(StoredManifest.of(OCI_INDEX, b'{"manifests": []}'), children=[image.manifest.digest])
    await catalog.put_image("image", "lock", {"a": 1}, ROOT, [index, image])
    await catalog.put_image("image", "lock", {"a": 2}, ROOT, [index, image])
    assert await catalog.image("image") == {"a": 2}
    assert await catalog.image_of_lock("lock") == {"a": 2}
    assert await catalog.image("other") is None
    for each in (index, image):
        assert await catalog.manifest(each.manifest.digest) == each.manifest
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
        await catalog.put_image("image", "lock", {}, ROOT, [push(b"{}", b"config", b"layer")])
    assert caught.value.digests == (Digest.of(b"layer"),)
    await put(stores, b"layer")
    wrong = Descriptor("application/octet-stream", Digest.of(b"layer"), 1)
    with pytest.raises(SizeMismatch):
        await catalog.put_image("image", "lock", {}, ROOT, [Push(StoredManifest.of(OCI_MANIFEST, b"{}"), [wrong])])
    assert await catalog.image("image") is None
    assert await catalog.manifest(Digest.of(b"{}")) is None
    for table in (tables.repository, tables.link, tables.manifest, tables.image_manifest):
        assert await stores.rows(table.select()) == []


async def test_the_newest_image_of_a_lock(stores: Stores, catalog: Catalog) -> None:
    for number in range(3):
        await catalog.put_image(f"image{number}", "lock", {"n": number}, ROOT, [push(f"{number}".encode())])
    assert await catalog.image_of_lock("lock") == {"n": 2}
    assert await catalog.image_of_lock("other") is None


async def test_a_file_needs_its_blob(stores: Stores, catalog: Catalog) -> None:
    with pytest.raises(BlobUnknown):
        await catalog.put_artifact("file", "lock", {"a": 1}, Digest.of(b"file"))
    assert await catalog.artifact("file") is None
    await put(stores, b"file")
    for number in range(2):
        await catalog.put_artifact("file", "lock", {"a": number}, Digest.of(b"file"))
    assert await catalog.artifact("file") == {"a": 1}


async def test_the_same_may_be_recorded_several_times_at_once(stores: Stores, catalog: Catalog) -> None:
    """As by builds for two names of one lock, on two machines."""
    await put(stores, b"file", b"layer")
    await asyncio.gather(
        *(catalog.put_artifact("file", "lock", {}, Digest.of(b"file")) for _ in range(8)),
        *(catalog.put_image("image", "lock", {}, ROOT, [push(b"{}", b"layer")]) for _ in range(8)),
    )
    assert (await catalog.artifact("file"), await catalog.image("image")) == ({}, {})


async def test_use_is_written_down_now_and_then(stores: Stores, catalog: Catalog) -> None:
    await put(stores, b"file")
    await catalog.put_image("key", "lock", {}, ROOT, [push(b"{}")])
    await catalog.put_artifact("key", "lock", {}, Digest.of(b"file"))
    for kind, table in (("image", tables.image), ("artifact", tables.artifact)):
        for ago, noted in ((2 * USE_SECONDS, True), (USE_SECONDS / 2, False)):
            before = time.time() - ago
            async with stores.database.writing() as connection:
                await connection.execute(table.update().values(used=before))
            await catalog.note_use(kind, "key")  # type: ignore[arg-type]  # one of two literals
            await catalog.note_use(kind, "unknown")  # type: ignore[arg-type]  # likewise
            [row] = await stores.rows(table.select())
            assert (row.used > time.time() - 60) is noted


# locks


async def put_solve(
    catalog: Catalog, lock_key: str, spec_key: str = "spec", *, request: str = "request", solved: float = 1.0
) -> None:
    await catalog.put_solve(
        request, "2026-01-31", solved, lock_key=lock_key, spec_key=spec_key, document={"key": lock_key}
    )


async def test_a_later_solve_replaces_an_earlier_one_only(catalog: Catalog) -> None:
    await put_solve(catalog, "lock2", solved=20.0)
    await put_solve(catalog, "lock1", solved=10.0)
    resolution = await catalog.resolution("request")
    assert resolution is not None
    assert resolution.lock_key == "lock2"
    await put_solve(catalog, "lock3", solved=30.0)
    resolution = await catalog.resolution("request")
    assert resolution is not None
    assert resolution.lock_key == "lock3"
    await catalog.forget_resolution("request")
    assert await catalog.resolution("request") is None


async def test_locks_are_found_by_the_beginning_of_their_key(catalog: Catalog) -> None:
    for key in ("ab" * 32, "ab" * 31 + "ac", "cd" * 32):
        await put_solve(catalog, key, "spec" + key[:2])
    assert [key for key, _ in await catalog.locks("ab" * 31)] == ["ab" * 32, "ab" * 31 + "ac"]
    assert await catalog.locks("cd" * 6) == [("cd" * 32, "speccd")]
    assert await catalog.locks("ff" * 6) == []
    assert await catalog.lock("cd" * 32) == {"key": "cd" * 32}
    assert await catalog.locks_of_spec("specab") == ["ab" * 32, "ab" * 31 + "ac"]
    await put_solve(catalog, "ab" * 32, "specab", request="dated")
    assert await catalog.days_of_spec("specab") == ["2026-01-31"]


async def test_one_spec_is_found_by_the_beginning_of_its_key(catalog: Catalog) -> None:
    for number, spec in enumerate(("aa" * 32, "aa" * 32, "ab" * 32)):
        await put_solve(catalog, f"{number:064x}", spec)
    assert await catalog.lock_of_spec("aa" * 4) in ({"key": f"{number:064x}"} for number in (0, 1))
    assert await catalog.lock_of_spec("a") is None
    assert await catalog.lock_of_spec("bb") is None


def test_the_newest_revision_is_the_last_script() -> None:
    assert ScriptDirectory.from_config(migrations()).get_current_head() == NEWEST
