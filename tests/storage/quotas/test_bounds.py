"""Quotas of namespaces: whose they are, what counts, what is refused, and what room comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import insert

from storage.database import tables
from storage.database.account_tables import namespace
from storage.database.engine import Database
from storage.digest import Digest
from storage.errors import BlobUnknown, QuotaExceeded
from storage.quotas.limits import Limits, Quota
from storage.repositories.pushed import Repositories
from storage.repositories.uploads import Uploads
from tests.support.storage.content import Content

AT_ONCE = 8


def data(letter: str, size: int = 400) -> bytes:
    return letter.encode() * size


def under(content: Content, *quotas: str, default: int = 0) -> Content:
    """The same store for a server whose setting `namespace_quota` is `default`."""
    limits = Limits(tuple(map(Quota.parse, quotas)), namespace=default)
    repositories = Repositories(content.stores.database, content.changes, limits)
    return replace(content, repositories=repositories, uploads=Uploads(content.stores.blobs, repositories))


async def set_quota(content: Content, name: str, quota: int | None) -> None:
    database = content.stores.database
    row = database.insert(namespace).values(name=name, created=1.0, created_by="x", quota=quota)
    async with database.writing() as connection:
        await connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"quota": quota}))


async def refused(content: Content, repository: str, blob: bytes, match: str | None = None) -> None:
    with pytest.raises(QuotaExceeded, match=match):
        await content.push_blob(repository, blob)


async def test_a_namespace_has_its_own_quota_or_that_of_the_setting(content: Content) -> None:
    server = under(content, default=300)
    async with content.stores.database.writing() as connection:
        await connection.execute(insert(namespace).values(name="lab", created=1.0, created_by="x"))
    for name, quota in (("team", 1000), ("free", 0)):
        await set_quota(content, name, quota)
    for repository, limit in (("team/a", 1000), ("lab/a", 300), ("nobody-made-this/a", 300), ("bare", 300)):
        await server.push_blob(repository, data("1", limit))
        await refused(server, repository, b"2", rf"namespace {repository.split('/')[0]} may hold {limit:,} bytes")
    await server.push_blob("free/a", data("1", 5000))


async def test_without_quotas_nothing_is_bounded(content: Content) -> None:
    await set_quota(content, "team", None)
    for repository in ("team/a", "lab/a"):
        assert not await content.repositories.room.bounds(repository)
        await content.push_blob(repository, data("1", 5000))
        async with content.uploads.arriving(repository) as arrival:
            await arrival.expect(1 << 62)


async def test_a_quota_holds_from_the_moment_it_is_set(content: Content) -> None:
    await content.push_blob("team/a", data("1"))
    await set_quota(content, "team", 500)
    await refused(content, "team/b", data("2"))
    await set_quota(content, "team", 800)
    await content.push_blob("team/b", data("2"))
    # what is there stays, however small the quota becomes
    await set_quota(content, "team", 1)
    assert (await content.repositories.blob("team/a", Digest.of(data("1")))).size == 400
    await set_quota(content, "team", None)
    await content.push_blob("team/b", data("3"))


async def test_what_is_in_a_namespace(content: Content) -> None:
    """Its name is no prefix and no pattern."""
    await set_quota(content, "te_m", 500)
    for repository in ("te_m", "te_m/a/b/c"):
        await content.push_blob(repository, data(repository[-1], 200))
    for repository in ("te_m2/a", "te_m-x", "te_m.x/a", "team/a", "x/te_m/a"):
        await content.push_blob(repository, data("x", 5000))
    await refused(content, "te_m/z", data("z", 200), r"this would make it 600 \(there are 400 now\)")
    assert await content.repositories.room.measure("te_m") == 400


async def test_a_refusal_says_what_helps(content: Content) -> None:
    await set_quota(content, "team", 500)
    await content.push_manifest("team/a", None, name="x" * 200)
    upload = await content.chunk(await content.uploads.open("team/b", "me"), data("1", 100))
    assert upload.size == 100
    with pytest.raises(QuotaExceeded) as raised:
        await content.push_blob("team/b", data("2"))
    message = str(raised.value)
    held = raised.value.held
    assert held is not None
    assert message.startswith(
        f"namespace team may hold 500 bytes, but this would make it {held + 400:,} (there are {held:,} now); "
    )
    for help_ in (
        "delete images by their digests, which makes room at once",
        "1 manifests there have no tag any more",
        "100 bytes belong to unfinished uploads, which give way after 600 s",
        "an administrator can raise it with: condery namespace quota team SIZE",
    ):
        assert help_ in message


async def test_a_blob_counts_once_in_a_namespace_and_in_each(content: Content) -> None:
    for name in ("team", "lab"):
        await set_quota(content, name, 500)
    blob = Digest.of(data("1"))
    await content.push_blob("team/a", data("1"))
    for repository in ("team/b", "lab/a"):
        assert await content.repositories.mount(repository, blob, "team/a", lambda _: True)
    await content.push_blob("team/c", data("1"))
    await content.push_blob("lab/a", data("2", 100))
    # a mount brings no byte onto the disk, and is counted like a push all the same
    with pytest.raises(QuotaExceeded, match="namespace lab may hold 500 bytes"):
        await content.repositories.mount("lab/a", await content.push_blob("other/a", b"x"), "other/a", lambda _: True)


async def test_what_comes_counts_as_it_comes(content: Content) -> None:
    await set_quota(content, "team", 1000)
    upload = await content.chunk(await content.uploads.open("team/a", "me"), data("1"))
    async with content.uploads.arriving("team/b") as arrival:
        await arrival.expect(500)
        await refused(content, "team/c", data("2", 101))
        await content.push_blob("team/c", data("2", 50))
        with pytest.raises(QuotaExceeded):
            await arrival.expect(551)
    await content.uploads.cancel(upload)
    assert await content.repositories.room.measure("team") == 50


async def test_a_refused_push_leaves_nothing_held(content: Content) -> None:
    await set_quota(content, "team", 1000)
    await content.push_image("team/a", "v1", data("1", 300))
    before = await content.repositories.room.measure("team")
    await refused(content, "team/b", data("2", 900))
    upload = await content.chunk(await content.uploads.open("team/b", "me"), data("3"))
    with pytest.raises(QuotaExceeded):
        await content.chunk(upload, data("4"))
    async with content.uploads.arriving("team/b") as arrival:
        with pytest.raises(QuotaExceeded):
            await arrival.expect(900)
    assert await content.repositories.room.measure("team") == before
    # and what it had brought by then gives way to whoever comes next
    await content.push_blob("team/b", data("5"))
    await refused(content, "team/b", data("6"))
    await content.push_blob("team/c", data("7"))
    await content.assert_sound()


async def test_deleting_an_image_frees_the_room_at_once(content: Content) -> None:
    await set_quota(content, "team", 1000)
    digest = await content.push_image("team/a", "v1", data("1"), data("2"))
    await refused(content, "team/b", data("3"))
    await content.repositories.delete_manifest("team/a", digest)
    await content.push_image("team/b", "v1", data("3"), data("4"))
    with pytest.raises(BlobUnknown):
        await content.repositories.blob("team/a", Digest.of(data("1")))
    await content.assert_sound()


async def test_a_manifest_counts_before_it_comes_and_when_it_is_stored(content: Content) -> None:
    await set_quota(content, "team", 500)
    with pytest.raises(QuotaExceeded, match="namespace team"):
        await content.repositories.check_push("team/a", None, ["v1"], 501)
    with pytest.raises(QuotaExceeded, match="namespace team"):
        await content.push_manifest("team/a", "v1", name="x" * 500)


async def test_nothing_goes_unless_it_helps_against_both_limits(content: Content) -> None:
    """Of one limit, what is spare would be enough; the other has nothing spare."""
    await set_quota(content, "team", 1000)
    server = under(content, "team/a* bytes=500")
    await server.push_image("team/b", "v1", data("b", 600))
    spare = await server.push_blob("team/a", data("1", 300))
    await content.change(tables.link, created=0.0)
    with pytest.raises(QuotaExceeded, match="namespace team"):
        await server.push_blob("team/a2", data("2"))
    assert (await server.repositories.blob("team/a", spare)).size == 300
    await server.push_blob("team/a2", data("2", 250))
    with pytest.raises(BlobUnknown):
        await server.repositories.blob("team/a", spare)


@pytest.fixture
async def elsewhere(content: Content, database_url: str) -> AsyncIterator[Content]:
    """The same store as another process has it open."""
    database = Database.open(database_url)
    repositories = Repositories(database, content.changes)
    yield replace(content, repositories=repositories, uploads=Uploads(content.stores.blobs, repositories))
    await database.close()


async def test_processes_that_push_at_once_stay_within_the_quota(content: Content, elsewhere: Content) -> None:
    """By blobs of 10 bytes, and bytes that are still coming. If all those come first, every push is refused."""
    await set_quota(content, "team", 55)
    first = await content.push_blob("team/first", b"the first!")

    async def hold(process: Content, repository: str) -> None:
        async with process.uploads.arriving(repository) as arrival:
            await arrival.expect(10)
            assert await process.repositories.room.measure("team") <= 55

    work = [
        (each.push_blob(f"team/r{n % 3}", f"{n}{name:>9}".encode()), hold(each, f"team/r{n % 3}"))
        for n in range(AT_ONCE)
        for name, each in (("here", content), ("there", elsewhere))
    ]
    outcomes = await asyncio.gather(*(each for pair in work for each in pair), return_exceptions=True)
    assert {type(each) for each in outcomes if isinstance(each, BaseException)} == {QuotaExceeded}
    # what was pushed may have given way to bytes that were coming then, but not where no push was refused
    assert (await content.repositories.blob("team/first", first)).size == 10
    assert 10 <= await content.repositories.room.measure("team") <= 55
    await content.assert_sound()
