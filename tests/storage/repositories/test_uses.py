"""What is asked for by its digest is not garbage, though nothing leads to it."""

from __future__ import annotations

import time
from dataclasses import replace

from storage.database import tables
from storage.digest import Digest
from storage.repositories.uses import note_blob_use, note_manifest_use
from tests.support.storage.content import AT_ONCE, ROOT, Content

DAY = 86400.0


async def test_a_manifest_that_lost_its_tag_stays_while_it_is_pulled(content: Content) -> None:
    kept = await content.push_image("a", None, b"one")
    gone = await content.push_image("a", None, b"two")
    await content.change(tables.repository_manifest, pushed=1.0, untagged=1.0)
    await note_manifest_use(content.stores.database, "a", kept)
    await note_manifest_use(content.stores.database, "b", gone)
    await content.collect(replace(AT_ONCE, untagged_for=DAY))
    assert await content.manifests("a") == {kept}
    await content.assert_sound()


async def test_an_image_stays_while_one_of_its_manifests_is_pulled(content: Content) -> None:
    [_, manifest, _] = await content.make_image("i", b"one")
    await content.make_image("j", b"two")
    await content.change(tables.image, used=1.0)
    await note_manifest_use(content.stores.database, ROOT, manifest)
    await content.collect(replace(AT_ONCE, image_retention=DAY))
    assert await content.stores.catalog.images.find("i") is not None
    assert await content.stores.catalog.images.find("j") is None
    assert len(await content.manifests(ROOT)) == 3


async def test_a_blob_that_was_asked_for_is_there_when_a_manifest_names_it(content: Content) -> None:
    for data in (b"asked for", b"not asked for"):
        await content.push_blob("a", data)
    await content.change(tables.link, created=1.0)
    await content.change(tables.blob, used=1.0)
    await note_blob_use(content.stores.database, "a", Digest.of(b"asked for"))
    await content.collect(replace(AT_ONCE, grace=DAY))
    assert await content.blobs() == {Digest.of(b"asked for")}


async def test_a_note_is_not_written_again_at_once(content: Content) -> None:
    digest = await content.push_image("a", None, b"one")
    recent = time.time() - 60
    await content.change(tables.repository_manifest, untagged=recent)
    await note_manifest_use(content.stores.database, "a", digest)
    assert await content.count(tables.repository_manifest, tables.repository_manifest.c.untagged == recent) == 1


async def test_a_tagged_manifest_needs_no_note(content: Content) -> None:
    digest = await content.push_image("a", "v1", b"one")
    await note_manifest_use(content.stores.database, "a", digest)
    assert await content.count(tables.repository_manifest, tables.repository_manifest.c.untagged.is_(None)) == 1
