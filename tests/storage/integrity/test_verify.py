"""Damage is found wherever it is, told with what needs it, and forgotten on demand; what is sound stays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import select

from storage.blobs.store import BlobStore
from storage.database import tables
from storage.digest import Descriptor, Digest
from storage.errors import StorageUnavailable
from storage.integrity.repair import Repaired, repair
from storage.integrity.verify import Damage, Verifier
from storage.objects.files import FileObjects
from storage.objects.segments import Segment, StreamRange
from storage.repositories.rows import Push, StoredManifest
from tests.support.storage.content import LAYER, MANIFEST, ROOT, Content

CONFIG = "application/vnd.oci.image.config.v1+json"


def image_of(*layers: bytes, name: str = "") -> Push:
    """A manifest as clients push it, of layers and a config of its name."""
    blobs = [Descriptor(CONFIG, Digest.of(name.encode()), len(name)), *(_layer(layer) for layer in layers)]
    entries = [blob.to_json() for blob in blobs]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": entries[0], "layers": entries[1:]}
    return Push(StoredManifest.of(MANIFEST, json.dumps(document).encode()), blobs=blobs)


def _layer(data: bytes) -> Descriptor:
    return Descriptor(LAYER, Digest.of(data), len(data))


async def push_image(content: Content, repository: str, tag: str, *layers: bytes) -> Push:
    push = image_of(*layers)
    for data in (b"", *layers):
        await content.push_blob(repository, data)
    await content.repositories.put_manifest(repository, push, [tag])
    return push


async def verify(content: Content) -> list[Damage]:
    return (await Verifier(content.stores.blobs).verify()).damage


async def mend(content: Content) -> Repaired:
    found = await Verifier(content.stores.blobs).verify()
    return await repair(content.stores.blobs, content.changes, found)


async def break_blob(content: Content, data: bytes, *, missing: bool = False) -> None:
    blob = await content.stores.blobs.find(Digest.of(data))
    assert blob.key
    assert isinstance(content.stores.objects, FileObjects)
    path = content.stores.objects.path(blob.key)
    if missing:
        path.unlink()
    else:
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


async def test_all_is_sound(content: Content) -> None:
    await push_image(content, "a", "v1", b"one", b"two")
    await content.put_join("layer", b"head", "f" * 64)
    told: list[tuple[int, int]] = []
    result = await Verifier(content.stores.blobs, lambda done, total: told.append((done, total))).verify()
    assert result.damage == []
    assert (result.blobs, result.manifests, result.bytes) == (4, 1, 3 + 3 + 644)
    assert max(told) == (650, 650)
    assert await repair(content.stores.blobs, content.changes, result) == Repaired()
    await content.assert_sound()


@pytest.mark.parametrize("missing", [True, False])
async def test_a_blob_that_several_need(content: Content, missing: bool) -> None:
    await push_image(content, "a", "v1", b"one", b"two")
    push = await push_image(content, "a", "v2", b"two", b"three")
    await push_image(content, "b", "other", b"one")
    await content.push_blob("c", b"two")
    await break_blob(content, b"two", missing=missing)
    [damage] = await verify(content)
    assert (damage.digest, damage.kind) == (Digest.of(b"two"), "blob")
    assert damage.needed_by == ("a:v1", "a:v2", "c")
    assert damage.problem.startswith("its bytes are missing" if missing else "its 3 bytes have digest sha256:")
    stamp = content.changes.stamp("a")
    assert await mend(content) == Repaired(blobs=1)
    assert content.changes.stamp("a") != stamp
    lacking = await verify(content)
    assert {each.kind for each in lacking} == {"manifest"}
    assert sorted(each.needed_by for each in lacking) == [("a:v1",), ("a:v2",)]
    await content.push_blob("a", b"two")
    await content.repositories.put_manifest("a", push)
    assert [each.needed_by for each in await verify(content)] == [("a:v1",)]
    await content.repositories.put_manifest("a", image_of(b"one", b"two"))
    assert await verify(content) == []
    await content.collect()
    await content.assert_sound()


async def test_a_file_beside_an_image(content: Content) -> None:
    blob = await content.stores.blobs.put(Digest.of(b"file"), [b"file"])
    await content.stores.catalog.artifacts.put("f", "lock", {}, blob.digest)
    await break_blob(content, b"file")
    assert [each.needed_by for each in await verify(content)] == [("a file beside an image",)]
    await mend(content)
    assert await content.stores.catalog.artifacts.find("f") is None
    assert await verify(content) == []


async def test_images_made_on_demand_are_forgotten_whole_to_be_made_again(content: Content) -> None:
    for key, layers in (("i", (b"one", b"two")), ("j", (b"two", b"three")), ("k", (b"four",))):
        await content.make_image(key, *layers)
    await break_blob(content, b"two")
    assert await mend(content) == Repaired(blobs=1, images=2)
    assert await content.stores.catalog.images.find("i") is None
    assert await content.stores.catalog.images.find("k") is not None
    assert len(await content.manifests(ROOT)) == 3
    await content.make_image("i", b"one", b"two")
    assert await verify(content) == []


async def test_a_join_and_what_it_shares_with_sound_ones(content: Content) -> None:
    shared, broken = "a" * 64, "b" * 64
    sound = await content.put_join("sound", b"1", shared)
    await content.put_join("broken", b"2", shared, broken)
    path = content.stores.blobs.fragment_path(broken)
    path.write_bytes(path.read_bytes()[:-1])
    [damage] = await verify(content)
    assert "1 bytes shorter than recorded" in damage.problem
    path.unlink()
    assert (await verify(content))[0].problem == "1 of the 2 fragments it consists of are missing"
    await mend(content)
    assert await content.blobs() == {sound}
    assert content.stores.blobs.fragment_path(shared).exists()
    assert await content.count(tables.layer) == 1


async def test_a_manifest_whose_own_text_is_damaged(content: Content) -> None:
    push = await push_image(content, "a", "v1", b"one")
    await content.repositories.put_manifest("a", image_of(b"one", name=""), ["v2"])
    await content.change(tables.manifest, body=b"{}")
    [damage] = await verify(content)
    assert (damage.kind, damage.digest, damage.needed_by) == ("manifest", push.manifest.digest, ("a:v1", "a:v2"))
    assert await mend(content) == Repaired(manifests=1)
    assert await content.tags("a") == []
    assert await verify(content) == []
    await content.repositories.put_manifest("a", push, ["v1"])
    assert await verify(content) == []


async def test_what_is_deleted_while_it_is_read_is_no_damage(content: Content) -> None:
    await push_image(content, "a", "v1", b"one")

    class Deleting(BlobStore):
        """Deletes a blob's row as soon as its bytes were found missing."""

        async def find(self, digest: Digest) -> Any:
            await content.repositories.delete_tag("a", "v1")
            await content.collect()
            return await super().find(digest)

    await break_blob(content, b"one", missing=True)
    blobs = Deleting(content.stores.database, content.stores.objects, content.stores.root / "fragments")
    assert (await Verifier(blobs).verify()).damage == []


async def test_a_store_that_does_not_answer_is_no_damage(content: Content) -> None:
    for number in range(10):
        await content.push_blob("a", bytes([number]))

    class Down(FileObjects):
        def segments(self, key: str, start: int, stop: int) -> list[Segment]:
            return [StreamRange(self._refused, stop - start)]

        def _refused(self) -> Iterator[bytes]:
            raise StorageUnavailable("the object store", "it is down")

    blobs = BlobStore(content.stores.database, Down(content.stores.root / "blobs"), content.stores.root / "fragments")
    with pytest.raises(StorageUnavailable, match="it is down"):
        await Verifier(blobs).verify()


async def test_copies_from_other_registries_may_lack_blobs(content: Content) -> None:
    push = image_of(b"never asked for")
    for data in (b"", b"never asked for"):
        await content.push_blob("mirror/a", data)
    await content.repositories.put_manifest("mirror/a", push, ["v1"])
    use = tables.manifest_blob
    async with content.stores.database.writing() as connection:
        await connection.execute(use.delete())
    assert [each.kind for each in await verify(content)] == ["manifest"]
    async with content.stores.database.writing() as connection:
        await connection.execute(
            tables.mirrored_manifest.insert().values(repository="mirror/a", digest=push.manifest.digest, pulled=1.0)
        )
    assert await verify(content) == []


async def test_more_than_a_page_of_each(content: Content) -> None:
    names: Sequence[str] = [f"{number:03}" for number in range(230)]
    await content.push_blob("a", b"")
    for name in names:
        await content.stores.blobs.put(Digest.of(name.encode()), [name.encode()])
    for name in names[:120]:
        body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "annotations": {"name": name}}).encode()
        await content.repositories.put_manifest("a", Push(StoredManifest.of(MANIFEST, body)), [name])
    await break_blob(content, b"229")
    result = await Verifier(content.stores.blobs).verify()
    assert (result.blobs, result.manifests) == (231, 120)
    assert [each.digest for each in result.damage] == [Digest.of(b"229")]
    stored = await content.stores.rows(select(tables.blob.c.digest))
    assert len(stored) == 231
