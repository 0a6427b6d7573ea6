"""Copies of other registries' content: manifests before their blobs, pins when those come, and dropping both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from storage.blobs.rows import StoredBlob
from storage.database import tables
from storage.digest import Descriptor, Digest
from storage.errors import BlobInUse, BlobUnknown, QuotaExceeded, SizeMismatch
from storage.events.changes import Changes
from storage.garbage.collection import Garbage
from storage.garbage.rules import GarbagePolicy
from storage.objects.protocol import writing
from storage.quotas.limits import Limits, Quota
from storage.repositories.mirrored import MirroredContent
from storage.repositories.pushed import Repositories
from storage.repositories.rows import Push, StoredManifest
from tests.support.storage.stores import Stores, open_stores

MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
DEBIAN, PYTHON, ELSEWHERE = "mirror/docker.io/library/debian", "mirror/docker.io/library/python", "mirror/ghcr.io/a/b"
NEAR = "mirror/docker.io/"
LAYER = b"layer" * 100


@dataclass
class Kept:
    stores: Stores
    repositories: Repositories
    content: MirroredContent
    changes: Changes

    async def arrive(self, repository: str, data: bytes) -> StoredBlob:
        """A blob that has come from the other registry."""
        async with self.stores.blobs.pending() as key:
            with writing(self.stores.objects, key) as writer:
                writer.write(data)
            return await self.content.adopt(repository, StoredBlob(Digest.of(data), len(data), key))

    async def pins(self, repository: str = DEBIAN) -> set[tuple[str, str]]:
        table = tables.manifest_blob
        query = select(table.c.manifest, table.c.digest).where(table.c.repository == repository)
        return {(row.manifest, row.digest) for row in await self.stores.rows(query)}

    async def collect(self, *, grace: float = 3600.0, copy_retention: float = 3600.0) -> int:
        """How many copies of manifests the garbage collection dropped."""
        policy = GarbagePolicy("conda-store-dynamic", grace=grace, linger=0.0, copy_retention=copy_retention)
        report = await Garbage(self.stores.blobs, self.changes, policy).collect()
        return report.steps["copies"].count

    async def pulled_at(self, digest: Digest, when: float) -> None:
        async with self.stores.database.writing() as connection:
            table = tables.mirrored_manifest
            await connection.execute(update(table).where(table.c.digest == digest).values(pulled=when))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    url = request.getfixturevalue("migrated_postgres") if request.param == "postgres" else None
    async with open_stores(tmp_path, url=url) as stores:
        changes = Changes(tmp_path / "changes")
        limits = Limits(quotas=(Quota(f"{ELSEWHERE}*", bytes=10),))
        repositories = Repositories(stores.database, changes, limits)
        yield Kept(stores, repositories, MirroredContent(stores.database, repositories), changes)


def manifest(number: int, *blobs: bytes, children: tuple[Digest, ...] = ()) -> Push:
    names = [Descriptor("application/octet-stream", Digest.of(each), len(each)) for each in blobs]
    return Push(StoredManifest.of(MEDIA_TYPE, b'{"n":%d}' % number), optional_blobs=names, children=children)


async def test_a_manifest_is_stored_without_its_blobs_which_are_pinned_when_they_come(kept: Kept) -> None:
    first, second = manifest(1, LAYER, b"config"), manifest(2, LAYER)
    await kept.content.put_manifest(DEBIAN, first, "latest")
    await kept.content.put_manifest(DEBIAN, second)
    assert await kept.pins() == set()
    with pytest.raises(BlobUnknown):
        await kept.repositories.blob(DEBIAN, Digest.of(LAYER))
    assert await kept.content.sizes(DEBIAN, Digest.of(LAYER)) == {len(LAYER)}
    blob = await kept.arrive(DEBIAN, LAYER)
    assert await kept.repositories.blob(DEBIAN, blob.digest) == blob
    assert await kept.pins() == {(first.manifest.digest, blob.digest), (second.manifest.digest, blob.digest)}
    with pytest.raises(BlobInUse):
        await kept.repositories.delete_blob(DEBIAN, blob.digest)
    # one that comes after the blob pins it as well
    third = manifest(3, LAYER)
    await kept.content.put_manifest(DEBIAN, third)
    assert (third.manifest.digest, blob.digest) in await kept.pins()
    assert await kept.stores.pending() == []


async def test_manifests_and_blobs_that_come_at_the_same_time_find_each_other(kept: Kept) -> None:
    pushes = [manifest(number, LAYER) for number in range(12)]
    await asyncio.gather(
        *(kept.content.put_manifest(DEBIAN, push) for push in pushes[:6]),
        kept.arrive(DEBIAN, LAYER),
        *(kept.content.put_manifest(DEBIAN, push) for push in pushes[6:]),
    )
    assert await kept.pins() == {(push.manifest.digest, Digest.of(LAYER)) for push in pushes}


async def test_the_same_blob_from_two_processes_has_its_bytes_once(kept: Kept) -> None:
    await kept.content.put_manifest(DEBIAN, manifest(1, LAYER))
    blobs = await asyncio.gather(*(kept.arrive(DEBIAN, LAYER) for _ in range(4)))
    assert len(set(blobs)) == 1
    assert kept.stores.files() == [blobs[0].key]
    assert await kept.stores.pending() == []


async def test_a_manifest_that_gives_another_size_keeps_nothing(kept: Kept) -> None:
    wrong = manifest(1, LAYER)
    wrong = replace(wrong, optional_blobs=[replace(wrong.optional_blobs[0], size=1)])
    await kept.content.put_manifest(DEBIAN, wrong)
    await kept.arrive(DEBIAN, LAYER)
    assert await kept.pins() == set()
    with pytest.raises(SizeMismatch):
        await kept.content.put_manifest(DEBIAN, replace(wrong, manifest=StoredManifest.of(MEDIA_TYPE, b"{}")))


async def test_a_tag_knows_when_it_was_confirmed(kept: Kept) -> None:
    first, second = manifest(1), manifest(2)
    assert await kept.content.find_tagged(DEBIAN, "latest") is None
    begun = time.time()
    await kept.content.put_manifest(DEBIAN, first, "latest")
    await kept.content.put_manifest(DEBIAN, second)
    copy = await kept.content.find_tagged(DEBIAN, "latest")
    assert copy is not None
    assert copy.manifest == first.manifest
    assert begun <= copy.confirmed <= time.time()

    stamp = kept.changes.stamp(DEBIAN)
    assert await kept.content.confirm(DEBIAN, "latest", first.manifest.digest)
    again = await kept.content.find_tagged(DEBIAN, "latest")
    assert again is not None
    assert again.confirmed > copy.confirmed
    assert kept.changes.stamp(DEBIAN) == stamp, "memories of what is the same were thrown away"

    assert await kept.content.confirm(DEBIAN, "latest", second.manifest.digest)
    moved = await kept.content.find_tagged(DEBIAN, "latest")
    assert moved is not None
    assert moved.manifest == second.manifest
    assert kept.changes.stamp(DEBIAN) != stamp
    assert not await kept.content.confirm(DEBIAN, "latest", Digest.of(b"never seen"))

    await kept.content.drop_tag(DEBIAN, "latest")
    assert await kept.content.find_tagged(DEBIAN, "latest") is None
    assert await kept.repositories.manifest(DEBIAN, second.manifest.digest) == second.manifest


async def test_blobs_are_lent_between_repositories_of_one_registry_only(kept: Kept) -> None:
    digest = Digest.of(LAYER)
    await kept.content.put_manifest(PYTHON, manifest(1, LAYER))
    await kept.arrive(ELSEWHERE.replace("/a/", "/other/"), LAYER)
    assert not await kept.content.has_near(digest, NEAR)
    assert await kept.content.borrow(PYTHON, digest, NEAR) is None
    blob = await kept.arrive(DEBIAN, LAYER)
    assert await kept.content.has_near(digest, NEAR)
    assert await kept.content.borrow(PYTHON, digest, NEAR) == blob
    assert await kept.pins(PYTHON) == {(manifest(1).manifest.digest, digest)}


async def test_an_underscore_in_a_registry_stands_for_itself(kept: Kept) -> None:
    await kept.arrive("mirror/hostx5000/a", LAYER)
    assert not await kept.content.has_near(Digest.of(LAYER), "mirror/host_5000/")


async def test_quotas_count(kept: Kept) -> None:
    with pytest.raises(QuotaExceeded):
        await kept.arrive(ELSEWHERE, LAYER)
    # a registry has as many manifests as somebody makes there
    with pytest.raises(QuotaExceeded):
        await kept.content.put_manifest(ELSEWHERE, manifest(10**9), "latest")
    assert await kept.content.find_tagged(ELSEWHERE, "latest") is None
    assert await kept.stores.pending() == []
    assert kept.stores.files() == []


async def test_what_nobody_asks_for_is_dropped_though_it_has_a_tag(kept: Kept) -> None:
    old, used = manifest(1, LAYER), manifest(2, LAYER)
    await kept.content.put_manifest(DEBIAN, old, "old")
    await kept.content.put_manifest(DEBIAN, used, "used")
    await kept.arrive(DEBIAN, LAYER)
    for push in (old, used):
        await kept.pulled_at(push.manifest.digest, 100.0)
    await kept.content.note_pull(DEBIAN, used.manifest.digest)
    stamp = kept.changes.stamp(DEBIAN)
    assert await kept.collect() == 1
    assert await kept.repositories.manifest(DEBIAN, old.manifest.digest) is None
    assert await kept.content.find_tagged(DEBIAN, "old") is None
    assert await kept.content.find_tagged(DEBIAN, "used") is not None
    assert await kept.pins() == {(used.manifest.digest, Digest.of(LAYER))}
    assert kept.changes.stamp(DEBIAN) != stamp
    assert await kept.collect() == 0


async def test_what_is_dropped_takes_its_blobs_along(kept: Kept) -> None:
    await kept.content.put_manifest(DEBIAN, manifest(1, LAYER, b"shared"), "old")
    await kept.content.put_manifest(DEBIAN, manifest(2, b"shared"), "used")
    for data in (LAYER, b"shared"):
        await kept.arrive(DEBIAN, data)
    await kept.pulled_at(manifest(1).manifest.digest, 100.0)
    assert await kept.collect(grace=-1.0) == 1
    assert [blob.digest for blob in await kept.stores.stored()] == [Digest.of(b"shared")]
    assert len(kept.stores.files()) == 1


async def test_who_asks_for_an_index_keeps_its_manifests(kept: Kept) -> None:
    child = manifest(1, LAYER)
    index = manifest(2, children=(child.manifest.digest,))
    for push in (child, index):
        await kept.content.put_manifest(DEBIAN, push)
        await kept.pulled_at(push.manifest.digest, 100.0)
    await kept.content.note_pull(DEBIAN, index.manifest.digest)
    assert await kept.collect() == 0


async def test_blobs_that_were_never_asked_for_do_not_matter(kept: Kept) -> None:
    await kept.content.put_manifest(DEBIAN, manifest(1, LAYER), "latest")
    assert await kept.collect(grace=-1.0) == 0
    assert await kept.content.find_tagged(DEBIAN, "latest") is not None
    await kept.arrive(DEBIAN, LAYER)
    await kept.collect(grace=-1.0)
    assert await kept.stores.content(Digest.of(LAYER)) == LAYER


async def test_what_was_pushed_is_never_dropped(kept: Kept) -> None:
    pushed = manifest(1)
    await kept.repositories.put_manifest("team/app", pushed, ["latest"])
    assert await kept.collect(copy_retention=-1000.0) == 0
    assert await kept.repositories.find_tagged("team/app", "latest") == pushed.manifest
