"""Room under a quota: what counts, what gives way, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import select, text

from storage.blobs.rows import StoredBlob, claim
from storage.database import tables
from storage.digest import Digest
from storage.errors import BlobUnknown, ManifestBlobUnknown, QuotaExceeded, TagImmutable, UploadUnknown
from storage.quotas import room
from storage.quotas.arrivals import arriving
from storage.quotas.limits import Limits, Quota
from storage.quotas.patterns import Immutable
from storage.quotas.room import SILENT_SECONDS
from storage.repositories.mirrored import MirroredContent
from storage.repositories.pushed import Repositories
from storage.repositories.uploads import Uploads
from storage.repositories.uses import note_blob_use
from tests.support.storage.content import NEVER, Content, push_of


def under(content: Content, *quotas: str, immutable: str | None = None) -> Content:
    limits = Limits(tuple(map(Quota.parse, quotas)), (Immutable.parse(immutable),) if immutable else ())
    repositories = Repositories(content.stores.database, content.changes, limits)
    return replace(content, repositories=repositories, uploads=Uploads(content.stores.blobs, repositories))


def data(letter: str, size: int = 400) -> bytes:
    return letter.encode() * size


async def refused(content: Content, repository: str, blob: bytes) -> None:
    with pytest.raises(QuotaExceeded):
        await content.push_blob(repository, blob)


async def test_what_a_refused_push_brought_makes_room_for_the_next(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    await team.push_blob("team/a", data("1"))
    await team.push_blob("team/a", data("2"))
    await refused(team, "team/a", data("3"))
    await team.push_image("team/b", "v1", data("4"), data("5"))
    with pytest.raises(ManifestBlobUnknown):
        await team.push_manifest("team/a", "v1", blobs=[data("1"), data("2")])
    await content.assert_sound()


async def test_a_collection_frees_what_a_refused_push_brought(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    await team.push_image("team/a", "v1", data("kept", 50))
    await team.push_blob("team/a", data("1"))
    await refused(team, "team/a", data("2"))
    done = await team.collect(NEVER)
    assert done.bytes == 400
    assert await content.blobs() == {Digest.of(data("kept", 50))}
    await content.assert_sound()


async def test_a_collection_leaves_what_others_have_of_a_refused_push(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    await content.push_blob("elsewhere", data("1"))
    await team.push_blob("team/a", data("1"))
    await team.push_blob("team/a", data("2"))
    await content.stores.blobs.need([Digest.of(data("2"))])
    await refused(team, "team/a", data("3"))
    assert (await team.collect(NEVER)).bytes == 0
    assert await content.blobs() == {Digest.of(data("1")), Digest.of(data("2"))}


async def test_a_repository_whose_only_push_was_refused_is_not_listed(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    await team.push_blob("team/a", data("1"))
    await refused(team, "team/a", data("2", 900))
    assert (await team.repositories.names(None, 10)).items == []
    await team.push_image("team/b", "v1", data("3"))
    assert (await team.repositories.names(None, 10)).items == ["team/b"]


async def test_deleting_an_image_makes_room_at_once(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    digest = await team.push_image("team/a", "v1", data("1"), data("2"))
    await refused(team, "team/b", data("3"))
    await team.repositories.delete_tag("team/a", "v1")
    with pytest.raises(QuotaExceeded, match="1 manifests there have no tag any more"):
        await team.push_blob("team/b", data("3"))
    await team.repositories.delete_manifest("team/a", digest)
    await team.push_image("team/b", "v1", data("3"), data("4"))
    with pytest.raises(BlobUnknown):
        await team.repositories.blob("team/a", Digest.of(data("1")))
    await content.assert_sound()


async def test_nothing_goes_for_what_would_not_fit_then_either(content: Content) -> None:
    """Whoever may push could delete what others pushed by claiming a size."""
    team = under(content, "team/* bytes=1000")
    await team.push_image("team/kept", "v1", data("k", 100))
    old = [await team.push_blob(f"team/{number}", data(str(number), 200)) for number in range(3)]
    silent = await team.chunk(await team.uploads.open("team/s", "me"), data("s", 100))
    await content.change(tables.upload, touched=tables.upload.c.touched - SILENT_SECONDS - 1)
    await content.change(tables.link, created=0.0)
    async with team.uploads.arriving("team/b") as arrival:
        for size in (1 << 62, 1001, 900):
            with pytest.raises(QuotaExceeded):
                await arrival.expect(size)
    for number, digest in enumerate(old):
        assert (await team.repositories.blob(f"team/{number}", digest)).size == 200
    assert (await team.uploads.find("team/s", silent.id, "me")).size == 100
    async with team.uploads.arriving("team/b") as arrival:
        await arrival.expect(800)
    with pytest.raises(BlobUnknown):
        await team.repositories.blob("team/0", old[0])
    await content.assert_sound()


async def test_what_makes_no_room_does_not_go(content: Content) -> None:
    """A blob counts once, and that which is pushed does not."""
    team = under(content, "team/* bytes=1000")
    for repository in ("team/a", "team/b"):
        await team.push_blob(repository, data("1"))
    await team.push_manifest("team/b", "v1", blobs=[data("1")])
    await team.push_blob("team/a", data("2"))
    await content.change(tables.link, created=0.0)
    blob = await team.repositories.blob("team/a", Digest.of(data("2")))
    # all that is there but the blob itself is the image's, which is too much for one a bit larger
    with pytest.raises(QuotaExceeded):
        await team.repositories.room.within("team/c", lambda: claim_room(team, replace(blob, size=700)))
    for letter in ("1", "2"):
        assert (await team.repositories.blob("team/a", Digest.of(data(letter)))).size == 400


async def claim_room(content: Content, blob: StoredBlob) -> None:
    async with content.stores.database.writing() as connection:
        await content.repositories.room.check_blob(connection, "team/c", blob)


async def test_as_many_small_things_go_as_are_needed(content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BATCH", 1)
    team = under(content, "team/* bytes=300")
    for number in range(30):
        await team.push_blob("team/a", f"{number:010}".encode())
    await content.change(tables.link, created=0.0)
    await team.push_blob("team/b", data("1", 300))
    await content.assert_sound()


@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.services)], indirect=True)
async def test_a_silent_session_goes_when_spare_blobs_are_held_by_somebody(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    await team.push_blob("team/a", data("1"))
    await content.change(tables.link, created=0.0)
    upload = await team.chunk(await team.uploads.open("team/a", "me"), data("2"))
    await content.change(tables.upload, touched=tables.upload.c.touched - SILENT_SECONDS - 1)
    async with content.stores.database.writing() as connection:
        await connection.execute(select(tables.link).with_for_update())
        await team.push_blob("team/b", data("3"))
    assert (await team.repositories.blob("team/a", Digest.of(data("1")))).size == 400
    with pytest.raises(UploadUnknown):
        await team.uploads.find("team/a", upload.id, "me")


async def test_what_another_image_has_does_not_give_way(content: Content) -> None:
    team = under(content, "team/* bytes=1100")
    one = await team.push_image("team/a", "v1", data("1"), data("2"))
    await team.push_manifest("team/a", "v2", blobs=[data("1")])
    await team.repositories.delete_manifest("team/a", one)
    await team.push_blob("team/b", data("3"))
    await refused(team, "team/b", data("4"))
    assert (await team.repositories.blob("team/a", Digest.of(data("1")))).size == 400


async def test_what_is_found_after_its_image_was_deleted_does_not_give_way(content: Content) -> None:
    """Who finds a blob will name it."""
    team = under(content, "team/* bytes=1000")
    digest = await team.push_image("team/a", "v1", data("1"), data("2"))
    await team.repositories.delete_manifest("team/a", digest)
    await note_blob_use(content.stores.database, "team/a", Digest.of(data("1")))
    await team.push_blob("team/b", data("3"))
    await team.push_manifest("team/a", "v1", blobs=[data("1")])


async def test_manifests_count(content: Content) -> None:
    team = under(content, "team/* bytes=300")
    pushes = [push_of([], name=str(number) * 200) for number in range(2)]
    await team.repositories.put_manifest("team/a", pushes[0], ["v1"])
    for repository in ("team/a", "team/b"):
        await team.repositories.put_manifest(repository, pushes[0], ["v2"])
        with pytest.raises(QuotaExceeded):
            await team.repositories.put_manifest(repository, pushes[1], ["v3"])


async def test_a_manifest_that_a_rule_refuses_lets_its_blobs_go(content: Content) -> None:
    team = under(content, "team/* bytes=1600", immutable="team/*:v*")
    await team.push_image("team/a", "v1", data("1"))
    with pytest.raises(TagImmutable):
        await team.push_image("team/a", "v1", data("2"))
    await team.push_image("team/a", "v2", data("3"), data("4"))


async def test_sessions_count_and_give_way_when_they_are_silent(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    upload = await team.chunk(await team.uploads.open("team/a", "me"), data("1", 800))
    await refused(team, "team/b", data("2"))
    # what would be too much ends its own session
    other = await team.uploads.open("team/b", "me")
    with pytest.raises(QuotaExceeded, match="800 bytes belong to unfinished uploads"):
        await team.chunk(other, data("3"))
    with pytest.raises(UploadUnknown):
        await team.uploads.find("team/b", other.id, "me")
    await content.change(tables.upload, touched=tables.upload.c.touched - SILENT_SECONDS - 1)
    await team.push_blob("team/b", data("2"))
    with pytest.raises(UploadUnknown):
        await team.uploads.find("team/a", upload.id, "me")


async def test_a_refusal_does_not_count_its_own_session_as_unfinished(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    upload = await team.chunk(await team.uploads.open("team/a", "me"), data("1", 800))
    with pytest.raises(QuotaExceeded, match=r"would make it 1,200 \(there are 0 now\)") as refusal:
        await team.chunk(upload, data("2", 400))
    assert "unfinished" not in str(refusal.value)
    upload = await team.chunk(await team.uploads.open("team/a", "me"), data("1", 800))
    async with team.uploads.arriving("team/a", upload=upload.id) as arrival:
        await arrival.expect(100)
        with pytest.raises(QuotaExceeded) as refusal:
            await arrival.expect(400)
    assert "unfinished" not in str(refusal.value)


async def test_a_repository_that_is_over_its_quota_is_told_so(content: Content) -> None:
    await content.push_blob("team/a", data("1", 500))
    team = under(content, "team/* bytes=400")
    with pytest.raises(QuotaExceeded, match=r"may hold 400 bytes, but is over its quota already: there are 500; "):
        await team.push_blob("team/a", data("2", 1))


async def test_bytes_count_while_they_come(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    async with team.uploads.arriving("team/a") as arrival:
        await arrival.expect(800)
        await refused(team, "team/b", data("1"))
        async with team.uploads.arriving("team/b") as other:
            with pytest.raises(QuotaExceeded):
                await other.expect(400)
            await other.expect(200)
        with pytest.raises(QuotaExceeded):
            await arrival.expect(1001)
    await team.push_blob("team/b", data("1"))


async def test_bytes_of_a_process_that_died_do_not_count_for_long(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    [key] = await content.stores.blobs.reserve(1)
    await team.repositories.room.hold("team/a", key, 800, -1.0)
    await team.push_blob("team/b", data("1"))


async def test_a_renewal_does_not_set_back_what_grows_meanwhile(content: Content) -> None:
    team = under(content, f"team/* bytes={100 << 20}")
    async with team.uploads.arriving("team/a") as arrival:
        await arrival.expect(1000)
        for size in range(2000, 20_000, 1000):
            # in either order, and each while the other waits for the database
            await asyncio.gather(arrival.expect(size * 1000), arrival._renew(), arrival.expect(size * 1000 + 1))
            held = (await content.stores.rows(select(tables.pending.c.size)))[0].size
            assert held >= size * 1000 + 1
            assert arrival._held == held


async def test_room_that_has_run_out_and_is_others_is_asked_for_again(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    async with team.uploads.arriving("team/a") as arrival:
        await arrival.expect(800)
        await content.change(tables.pending, held_until=1.0)
        await team.push_blob("team/b", data("1"))
        await arrival._renew()
        with pytest.raises(QuotaExceeded):
            await arrival.expect(800)
        await arrival.expect(600)


@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.services)], indirect=True)
async def test_a_renewal_and_the_end_of_a_push_do_not_wait_for_each_other(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    async with team.uploads.arriving("team/a") as arrival:
        await arrival.expect(800)
        async with content.stores.database.writing() as connection:
            await claim(connection, arrival.key)
            renewal = asyncio.create_task(arrival._renew())
            while not await content.stores.rows(text("SELECT 1 FROM pg_locks WHERE NOT granted")):
                await asyncio.sleep(0.01)
            await team.repositories.room.check(connection, "team/a", 800, without=(arrival.key,))
        await renewal
    assert await team.repositories.room.measure("team") == 0


async def test_what_has_become_a_blob_is_not_held_again(content: Content) -> None:
    team = under(content, "team/* bytes=1000")
    async with team.uploads.arriving("team/a") as arrival:
        await arrival.expect(800)
        received = team.receive(arrival.key, data("1", 800))
        await team.uploads.store("team/a", Digest.of(data("1", 800)), received)
        await arrival._renew()
        assert await team.repositories.room.measure("team") == 800
    await team.push_blob("team/b", data("2", 200))


async def test_the_bytes_of_a_copy_count_while_they_come_and_once_they_are_there(content: Content) -> None:
    mirror = under(content, "mirror/* bytes=1000")
    copies = MirroredContent(content.stores.database, mirror.repositories)
    blobs, digest = content.stores.blobs, Digest.of(data("1"))
    async with arriving(blobs, mirror.repositories.room, "mirror/a", digest) as arrival:
        await arrival.expect(400)
        await refused(mirror, "mirror/b", data("2", 700))
        mirror.receive(arrival.key, data("1"))
        await copies.adopt("mirror/a", StoredBlob(digest, 400, arrival.key))
        assert await mirror.repositories.room.measure("mirror") == 400
    await refused(mirror, "mirror/b", data("2", 700))
    await content.assert_sound()
