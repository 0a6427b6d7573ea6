"""Room for what is made on demand: what goes for something new, what stays, and what is refused."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

import pytest

from storage.catalog.made import Made
from storage.catalog.parts import Catalog
from storage.database import tables
from storage.digest import Digest
from storage.errors import QuotaExceeded
from storage.quotas.limits import Limits, Quota
from storage.repositories.pushed import Repositories
from storage.repositories.uploads import Uploads
from tests.support.storage.content import ROOT, Content, push_of

KB = 1000


def bytes_of(name: str, size: int = KB) -> bytes:
    return random.Random(name).randbytes(size)


class Maker:
    """Makes images and files under limits."""

    def __init__(self, content: Content, *quotas: str, images: int = 0, namespace: int = 0) -> None:
        limits = Limits(tuple(map(Quota.parse, quotas)), images=images, namespace=namespace, root=ROOT)
        self.content = content
        self.catalog = Catalog.of(content.stores.database, Made(content.stores.database, limits, content.changes.mark))
        repositories = Repositories(content.stores.database, content.changes, limits)
        self.pushing = replace(content, repositories=repositories, uploads=Uploads(content.stores.blobs, repositories))
        """What clients push to under the same limits."""

    async def image(self, key: str, *layers: bytes) -> None:
        """With two manifests and an index, some 450 bytes in all."""
        for layer in layers:
            await self.content.stores.blobs.put(Digest.of(layer), [layer])
        manifest, docker = (push_of(layers, name=f"{key} {kind}") for kind in ("oci", "docker"))
        index = push_of((), [manifest.manifest.digest], name=f"{key} index")
        await self.catalog.images.put(key, "lock", {}, ROOT, [index, manifest, docker])

    async def file(self, key: str, data: bytes) -> None:
        await self.content.stores.blobs.put(Digest.of(data), [data])
        await self.catalog.artifacts.put(key, "lock", {}, Digest.of(data))

    async def used(self, key: str, hours_ago: float) -> None:
        for table in (tables.image, tables.artifact):
            await self.content.change(table, table.c.key == key, used=time.time() - hours_ago * 3600)

    async def there(self) -> set[str]:
        rows = [
            row for table in (tables.image, tables.artifact) for row in await self.content.stores.rows(table.select())
        ]
        return {row.key for row in rows}


@pytest.fixture(params=["images_limit", "below the root", "the root", "everything", "the namespace"])
def limited(request: pytest.FixtureRequest, content: Content) -> Maker:
    """By each setting, 10 kB."""
    quotas = {"below the root": f"{ROOT}/*", "the root": ROOT, "everything": "*"}
    if request.param in quotas:
        return Maker(content, f"{quotas[request.param]} bytes=10KB")
    if request.param == "the namespace":
        return Maker(content, namespace=10 * KB)
    return Maker(content, images=10 * KB)


async def test_what_was_used_least_recently_goes(limited: Maker) -> None:
    content = limited.content
    await limited.image("one", bytes_of("a", 3 * KB))
    await limited.file("two", bytes_of("b", 3 * KB))
    await limited.image("three", bytes_of("c", 2 * KB))
    for key, hours in (("one", 5), ("two", 9), ("three", 7)):
        await limited.used(key, hours)
    before = content.changes.stamp(ROOT)
    await limited.image("four", bytes_of("d", 2 * KB))
    assert await limited.there() == {"one", "three", "four"}
    assert content.changes.stamp(ROOT) != before
    await limited.image("five", bytes_of("e", 2 * KB))
    assert await limited.there() == {"one", "four", "five"}
    assert Digest.of(bytes_of("b", 3 * KB)) not in await content.blobs()
    assert Digest.of(bytes_of("c", 2 * KB)) not in await content.blobs()
    assert len(await content.manifests(ROOT)) == 9
    await content.assert_sound()
    await content.change(tables.pending, expires=1.0)
    await content.garbage().delete_objects()
    assert len(content.stores.files()) == 3


async def test_what_others_have_too_stays(limited: Maker) -> None:
    content, shared = limited.content, bytes_of("shared", 2 * KB)
    await limited.image("one", shared, bytes_of("a", 2 * KB))
    await limited.image("two", shared, bytes_of("b", 2 * KB))
    await limited.file("file", bytes_of("a", 2 * KB))
    for key in ("one", "two"):
        await limited.used(key, 5)
    await limited.used("one", 6)
    await limited.file("three", bytes_of("c", 3200))
    assert await limited.there() == {"two", "file", "three"}
    assert {Digest.of(shared), Digest.of(bytes_of("a", 2 * KB))} < await content.blobs()
    await limited.file("four", bytes_of("d", 2 * KB))
    assert await limited.there() == {"file", "three", "four"}
    assert await content.blobs() == {Digest.of(bytes_of(*each)) for each in (("a", 2 * KB), ("c", 3200), ("d", 2 * KB))}
    await content.assert_sound()


async def test_what_was_just_used_stays_and_what_does_not_fit_beside_it_is_refused(limited: Maker) -> None:
    await limited.image("old", bytes_of("a", 2 * KB))
    await limited.used("old", 5)
    await limited.image("new", bytes_of("b", 5 * KB))
    with pytest.raises(
        QuotaExceeded, match=r"may hold 10,000 bytes, but this would make it 1\d,\d\d\d; .* raise "
    ) as caught:
        await limited.image("more", bytes_of("c", 6 * KB))
    assert caught.value.limit == 10 * KB
    with pytest.raises(QuotaExceeded):
        await limited.file("more", bytes_of("c", 6 * KB))
    # nothing goes in vain
    assert await limited.there() == {"old", "new"}
    await limited.image("less", bytes_of("d", 3 * KB))
    assert await limited.there() == {"new", "less"}


async def test_what_cannot_fit_is_refused_before_it_is_made(limited: Maker) -> None:
    await limited.catalog.room.look(10 * KB)
    with pytest.raises(QuotaExceeded, match="would make it 10,001"):
        await limited.catalog.room.look(10 * KB + 1)
    await limited.file("full", bytes_of("a", 10 * KB))
    with pytest.raises(QuotaExceeded, match="would make it 10,001"):
        await limited.catalog.room.look(0)
    await limited.used("full", 5)
    await limited.catalog.room.look(0)


async def test_the_same_again_needs_no_room(limited: Maker) -> None:
    for _ in range(3):
        await limited.image("one", bytes_of("a", 8 * KB))
        await limited.image("two", bytes_of("a", 8 * KB))
    assert await limited.there() == {"one", "two"}


async def test_many_at_once_stay_within_the_limit(limited: Maker) -> None:
    content = limited.content

    async def make(number: int) -> None:
        make = limited.image if number % 2 else limited.file
        await make(f"{number}", bytes_of(f"{number}", 3 * KB))
        await limited.used(f"{number}", 5)

    ended = await asyncio.gather(*(make(number) for number in range(12)), return_exceptions=True)
    assert {type(each) for each in ended} <= {type(None), QuotaExceeded}
    sizes = {row.digest: row.size for row in await content.stores.rows(tables.blob.select())}
    held = {row.digest for table in (tables.artifact, tables.link) for row in await content.stores.rows(table.select())}
    assert 0 < sum(sizes[digest] for digest in held) <= 10 * KB
    await content.assert_sound()


async def test_many_images_go_for_one(content: Content) -> None:
    maker = Maker(content, images=100 * KB)
    for number in range(80):
        await maker.image(f"{number:02}", bytes_of(f"{number}", 500))
        await maker.used(f"{number:02}", 200 - number)
    await maker.file("large", bytes_of("large", 100 * KB))
    assert await maker.there() == {"large"}


async def test_blobs_that_a_build_has_found_since_stay(content: Content) -> None:
    maker, data = Maker(content, images=10 * KB), bytes_of("a", 6 * KB)
    await maker.image("one", data)
    await maker.used("one", 5)
    assert await content.stores.blobs.need([Digest.of(data)])
    await maker.image("two", bytes_of("b", 6 * KB))
    assert await maker.there() == {"two"}
    assert Digest.of(data) in await content.blobs()


async def test_images_of_others_and_what_is_pushed_stay(content: Content) -> None:
    """Only what is made on demand can be made again."""
    maker = Maker(content, "* bytes=10KB")
    await content.push_image("team/a", "latest", bytes_of("p", 6 * KB))
    await maker.image("old", bytes_of("a", 2 * KB))
    await maker.used("old", 5)
    with pytest.raises(QuotaExceeded):
        await maker.image("new", bytes_of("b", 5 * KB))
    assert await maker.there() == {"old"}
    await maker.image("new", bytes_of("b", 2 * KB))
    assert await maker.there() == {"new"}
    assert await content.tags("team/a") == ["latest"]


async def test_without_a_limit_all_stay(content: Content) -> None:
    maker = Maker(content, "team/* bytes=10", f"{ROOT}/numpy* bytes=10")
    await maker.catalog.room.look(10**15)
    for key in ("one", "two"):
        await maker.image(key, bytes_of(key, 6 * KB))
        await maker.used(key, 5)
    assert await maker.there() == {"one", "two"}


@pytest.fixture(params=["*", f"{ROOT}*", f"{ROOT}/*", "the namespace"])
def shared(request: pytest.FixtureRequest, content: Content) -> Maker:
    """A limit of 10 kB, of what is pushed as well."""
    if request.param == "the namespace":
        return Maker(content, namespace=10 * KB)
    return Maker(content, f"{request.param} bytes=10KB")


async def test_what_is_pushed_is_checked_by_the_same_sum(shared: Maker) -> None:
    pushing, repository = shared.pushing, f"{ROOT}/team"
    await shared.file("file", bytes_of("a", 4 * KB))
    await shared.image("image", bytes_of("b", 2 * KB), bytes_of("a", 4 * KB))
    held = await pushing.repositories.room.measure(ROOT)
    assert 6 * KB < held < 7 * KB
    room = 10 * KB - held
    with pytest.raises(QuotaExceeded, match="would make it 10,001"):
        await pushing.push_blob(repository, bytes_of("c", room + 1))
    async with pushing.uploads.arriving(repository) as arrival:
        with pytest.raises(QuotaExceeded, match="would make it 10,001"):
            await arrival.expect(room + 1)
        await arrival.expect(room)
    # each blob counts once, whoever has it
    await pushing.push_blob(repository, bytes_of("a", 4 * KB))
    await pushing.push_blob(repository, bytes_of("c", room))
    assert await pushing.repositories.room.measure(ROOT) == 10 * KB
    with pytest.raises(QuotaExceeded):
        await shared.file("more", b"x")


async def test_a_push_takes_nothing_that_counts_as_a_file_too(shared: Maker) -> None:
    pushing, repository, data = shared.pushing, f"{ROOT}/team", bytes_of("a", 6 * KB)
    await shared.file("file", data)
    await pushing.push_blob(repository, data)
    await shared.content.change(tables.link, created=0.0)
    with pytest.raises(QuotaExceeded):
        await pushing.push_blob(repository, bytes_of("b", 5 * KB))
    assert (await pushing.repositories.blob(repository, Digest.of(data))).size == 6 * KB


async def test_files_count_in_no_other_quota(content: Content) -> None:
    maker = Maker(content, "team/* bytes=1KB")
    await maker.file("file", bytes_of("a", 6 * KB))
    await maker.pushing.push_blob("team/a", bytes_of("b"))
    assert await maker.pushing.repositories.room.measure("team") == KB
