"""Reading what the garbage collection takes away at that moment."""

from __future__ import annotations

from sqlalchemy import delete, update

from storage.database import tables
from storage.digest import Digest
from tests.support.registry.pushes import Pusher
from tests.support.registry.serving import Site

DATA = b"x" * 100_000
DIGEST = Digest.of(DATA)


async def collect(site: Site) -> None:
    """Take the blob away from under the server's memory, as a collection does just after the blob was found there."""
    push = Pusher(site)
    assert await push.read("a", DIGEST) == DATA
    store = site.workshop.store
    async with store.database.writing() as connection:
        await connection.execute(delete(tables.link))
        key = (await connection.execute(delete(tables.blob).returning(tables.blob.c.key))).scalar_one()
    store.blobs.objects.delete([key])


async def test_what_is_gone_is_said_to_be_gone(site: Site) -> None:
    push = Pusher(site)
    await push.whole("a", DATA, DIGEST)
    await collect(site)
    answer = await push.site_get("a", DIGEST)
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


async def test_what_was_pushed_again_meanwhile_is_found(site: Site) -> None:
    push = Pusher(site)
    await push.whole("a", DATA, DIGEST)
    await collect(site)
    await push.whole("a", DATA, DIGEST)
    assert await push.read("a", DIGEST) == DATA


async def test_bytes_that_are_lost_are_a_failure(site: Site) -> None:
    push = Pusher(site)
    await push.whole("a", DATA, DIGEST)
    store = site.workshop.store
    store.blobs.objects.delete([(await store.blobs.find(DIGEST)).key or ""])
    answer = await push.site_get("a", DIGEST)
    assert answer.status == 500
    assert "condery verify" in answer.message


async def test_finding_a_blob_keeps_it_for_the_manifest_that_will_name_it(site: Site) -> None:
    push = Pusher(site)
    await push.whole("a", DATA, DIGEST)
    database = site.workshop.store.database
    async with database.writing() as connection:
        await connection.execute(update(tables.link).values(created=1.0))
    assert (await push.site_get("a", DIGEST, "HEAD")).status == 200
    async with database.reading() as connection:
        assert (await connection.execute(tables.link.select())).one().created > 1.0
