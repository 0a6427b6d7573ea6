"""What is attached to manifests of on-demand images goes with them, and with nothing else."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from storage.catalog.attachments import Attachments, ImageSubject
from storage.catalog.made import Made
from storage.catalog.parts import Catalog
from storage.database import tables
from storage.digest import Digest
from storage.errors import ManifestBlobUnknown, QuotaExceeded
from storage.quotas.limits import Limits, Quota
from storage.repositories.rows import Push
from tests.support.storage.content import AT_ONCE, ROOT, Content, push_of

MARK = "io.example.file"
GONE = Digest.of(b"nobody has this")


def open_attachments(content: Content, *quotas: str, images: int = 0) -> Attachments:
    limits = Limits(tuple(map(Quota.parse, quotas)), images=images, root=ROOT)
    database = content.stores.database
    return Attachments(database, Made(database, limits, content.changes.mark))


async def file_of(content: Content, subject: Digest, name: str, size: int = 10) -> Push:
    data = name.encode() * size
    await content.stores.blobs.put(Digest.of(data), [data])
    return replace(push_of([data], subject=subject, name=name), annotations={MARK: name})


async def referrers(content: Content, repository: str, subject: Digest) -> list[str]:
    page = await content.repositories.referrers(repository, subject, None, None, 100)
    return sorted(each.descriptor.annotations[MARK] for each in page.items)


async def test_a_manifest_of_an_image_is_found_with_what_is_attached(content: Content) -> None:
    attachments = open_attachments(content)
    index, manifest, _ = await content.make_image("image", b"layer")
    assert await attachments.find_subject(ROOT, index, MARK) == ImageSubject("image", "lock", frozenset())
    pushes = [await file_of(content, index, name) for name in ("one", "two")]
    assert await attachments.put(ROOT, index, pushes)
    assert await attachments.put(ROOT, index, pushes), "another process may do the same"
    found = await attachments.find_subject(ROOT, index, MARK)
    assert found == ImageSubject("image", "lock", frozenset({"one", "two"}))
    assert await referrers(content, ROOT, index) == ["one", "two"]
    assert await referrers(content, ROOT, manifest) == []
    assert await attachments.find_subject(ROOT, pushes[0].manifest.digest, MARK) is None
    await content.assert_sound()


async def test_only_manifests_of_images_in_their_repositories_are_found(content: Content) -> None:
    attachments = open_attachments(content)
    pushed = await content.push_image("team/app", "v1", b"pushed")
    index, *_ = await content.make_image("image", b"layer")
    assert await attachments.find_subject("team/app", pushed, MARK) is None
    assert await attachments.find_subject("team/app", index, MARK) is None
    assert await attachments.find_subject(ROOT, GONE, MARK) is None


async def test_nothing_is_attached_to_what_is_gone(content: Content) -> None:
    attachments = open_attachments(content)
    await content.make_image("image", b"layer")
    push = await file_of(content, GONE, "late")
    assert not await attachments.put(ROOT, GONE, [push])
    assert push.manifest.digest not in await content.manifests(ROOT)


async def test_a_file_that_is_gone_is_told(content: Content) -> None:
    attachments = open_attachments(content)
    index, *_ = await content.make_image("image", b"layer")
    push = replace(push_of([b"never stored"], subject=index, name="lost"), annotations={MARK: "lost"})
    with pytest.raises(ManifestBlobUnknown):
        await attachments.put(ROOT, index, [push])
    assert await referrers(content, ROOT, index) == []


async def test_the_garbage_collection_keeps_them_as_long_as_their_subject(content: Content) -> None:
    attachments = open_attachments(content)
    index, manifest, _ = await content.make_image("image", b"layer")
    for subject in (index, manifest):
        assert await attachments.put(ROOT, subject, [await file_of(content, subject, "file")])
    await content.change(tables.repository_manifest, pushed=1.0)
    await content.collect(replace(AT_ONCE, image_retention=0))
    assert await referrers(content, ROOT, index) == ["file"]
    assert await referrers(content, ROOT, manifest) == ["file"]
    # the manifests are old, and the files have just been attached
    named = tables.repository_manifest.c.subject.is_not(None)
    await content.change(tables.repository_manifest, named, pushed=time.time())
    await content.collect(replace(AT_ONCE, grace=3600))
    assert await content.manifests(ROOT) == set()
    await content.collect()
    assert await content.counts() == {}


async def test_young_manifests_keep_theirs_without_an_image(content: Content) -> None:
    attachments = open_attachments(content)
    index, *_ = await content.make_image("image", b"layer")
    assert await attachments.put(ROOT, index, [await file_of(content, index, "file")])
    await content.collect(replace(AT_ONCE, grace=3600))
    assert await content.count(tables.image) == 0
    assert await referrers(content, ROOT, index) == ["file"]


async def test_an_image_that_makes_way_takes_them_along(content: Content) -> None:
    made = Made(content.stores.database, Limits(images=10_000, root=ROOT), content.changes.mark)
    catalog = Catalog.of(content.stores.database, made)
    content, attachments = replace(content, stores=replace(content.stores, catalog=catalog)), catalog.attachments
    index, manifest, docker = await content.make_image("old", b"a" * 3000)
    for subject in (index, manifest, docker):
        pushes = [await file_of(content, subject, name, 300) for name in ("one", "two")]
        assert await attachments.put(ROOT, subject, pushes)
    await content.change(tables.image, used=time.time() - 9 * 3600)
    await content.make_image("new", b"b" * 8000)
    assert [row.key for row in await content.stores.rows(tables.image.select())] == ["new"]
    assert len(await content.manifests(ROOT)) == 3
    assert await content.blobs() == {Digest.of(b"b" * 8000)}
    await content.assert_sound()


async def test_images_make_way_for_them_and_what_is_in_use_does_not(content: Content) -> None:
    attachments = open_attachments(content, images=8000)
    index, *_ = await content.make_image("mine", b"a" * 3000)
    await content.make_image("old", b"b" * 3000)
    await content.change(tables.image, tables.image.c.key == "old", used=time.time() - 9 * 3600)
    assert await attachments.put(ROOT, index, [await file_of(content, index, "file", 500)])
    assert [row.key for row in await content.stores.rows(tables.image.select())] == ["mine"]
    with pytest.raises(QuotaExceeded, match="on-demand"):
        await attachments.put(ROOT, index, [await file_of(content, index, "larger", 1000)])
    assert await referrers(content, ROOT, index) == ["file"]


async def test_other_repositories_with_the_image_have_their_own_quota(content: Content) -> None:
    attachments = open_attachments(content, "team/* bytes=2KB")
    layer = b"layer"
    index, manifest, _ = await content.make_image("image", layer)
    stored = await content.stores.blobs.find(Digest.of(layer))
    await content.link("team/app", stored)
    oci = await content.push_manifest("team/app", None, blobs=[layer], name="image oci")
    assert oci == manifest
    assert await content.push_manifest("team/app", "v1", children=[oci], name="image index") == index
    assert await attachments.put("team/app", index, [await file_of(content, index, "file")])
    assert await referrers(content, "team/app", index) == ["file"]
    assert await referrers(content, ROOT, index) == []
    with pytest.raises(QuotaExceeded, match=r"team/\*"):
        await attachments.put("team/app", index, [await file_of(content, index, "large", 1000)])
    assert await referrers(content, "team/app", index) == ["file"]


async def test_two_at_once_attach_the_same(content: Content) -> None:
    attachments = open_attachments(content)
    index, *_ = await content.make_image("image", b"layer")
    pushes = [await file_of(content, index, name) for name in ("one", "two")]
    assert await asyncio.gather(*(attachments.put(ROOT, index, pushes) for _ in range(4))) == [True] * 4
    assert await referrers(content, ROOT, index) == ["one", "two"]
