"""Blobs: what is put comes back, joins are blobs, and nothing half-written is ever known or left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.blobs.joins import FragmentPart, Join, Layer
from storage.blobs.rows import StoredBlob
from storage.database import tables
from storage.digest import Digest
from storage.errors import BlobUnknown, DigestMismatch, FragmentsGone, ObjectMissing, StorageUnavailable, WriteExpired
from storage.objects.protocol import writing
from storage.objects.segments import read_segment
from tests.support.storage.stores import Stores, open_stores, put_layers

DATA = b"x" * 3_000_000
DIGEST = Digest.of(DATA)


@pytest.fixture
async def stores(tmp_path: Path, database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(tmp_path, url=database_url) as stores:
        yield stores


@pytest.fixture(params=[True, False], ids=["joins", "objects"])
async def either(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> AsyncIterator[Stores]:
    """Stores that keep joins as such, and stores that write them out."""
    async with open_stores(tmp_path, url=database_url, joins=request.param) as stores:
        yield stores


async def everything(stores: Stores) -> tuple[list[Digest], list[str], list[str]]:
    """The digests that have bytes, pending keys, and files."""
    return sorted(blob.digest for blob in await stores.stored()), await stores.pending(), stores.files()


NOTHING: tuple[list[Digest], list[str], list[str]] = ([], [], [])


async def written(stores: Stores, key: str, data: bytes = DATA) -> StoredBlob:
    """An object of `data` that is not a blob yet."""
    with writing(stores.objects, key) as writer:
        writer.write(data)
    return StoredBlob(Digest.of(data), len(data), key)


async def make_old(stores: Stores) -> None:
    async with stores.database.writing() as connection:
        await connection.execute(tables.blob.update().values(used=1.0))


async def used(stores: Stores, digest: Digest) -> float:
    [row] = await stores.rows(tables.blob.select().where(tables.blob.c.digest == digest))
    return float(row.used)


def layer(*parts: bytes | FragmentPart, data: bytes) -> Layer:
    return Layer("l" * 64, Join(Digest.of(data), parts), Digest.of(b"diff"), 17)


# put


async def test_what_is_put_comes_back(stores: Stores) -> None:
    blob = await stores.blobs.put(DIGEST, [DATA[:10], DATA[10:]])
    assert (blob.digest, blob.size) == (DIGEST, len(DATA))
    assert await stores.blobs.find(DIGEST) == blob
    assert await stores.content(DIGEST) == DATA
    assert b"".join(stores.blobs.read(blob)) == DATA
    assert await everything(stores) == ([DIGEST], [], [blob.key])


async def test_sha512(stores: Stores) -> None:
    digest = Digest.parse("sha512:" + hashlib.sha512(b"abc").hexdigest())
    await stores.blobs.put(digest, [b"abc"])
    assert await stores.content(digest) == b"abc"


async def test_nothing_is_a_blob_too(stores: Stores) -> None:
    blob = await stores.blobs.put(Digest.of(b""), [])
    assert (blob.size, await stores.content(blob.digest)) == (0, b"")


async def test_what_is_there_is_not_read_again(stores: Stores) -> None:
    first = await stores.blobs.put(DIGEST, [DATA])
    await make_old(stores)

    unread: Iterator[bytes] = iter(lambda: pytest.fail("it was read"), b"")
    assert await stores.blobs.put(DIGEST, unread) == first
    assert await used(stores, DIGEST) > time.time() - 60
    assert await everything(stores) == ([DIGEST], [], [first.key])


async def test_several_are_put_at_once(stores: Stores) -> None:
    known = await stores.blobs.put(DIGEST, [DATA])
    contents = {Digest.of(data): [data] for data in (b"one", b"other", DATA)}
    blobs = await stores.blobs.put_all(contents)
    assert blobs.keys() == contents.keys()
    assert blobs[DIGEST] == known
    assert {digest: await stores.content(digest) for digest in blobs} == {
        digest: content for digest, [content] in contents.items()
    }
    assert await stores.pending() == []
    assert await stores.blobs.put_all(contents) == blobs
    assert len(stores.files()) == 3


async def test_of_several_all_are_put_or_none(stores: Stores) -> None:
    with pytest.raises(DigestMismatch):
        await stores.blobs.put_all({DIGEST: [DATA], Digest.of(b"one"): [b"other"], Digest.of(b"two"): [b"two"]})
    assert await everything(stores) == NOTHING


async def test_two_that_put_the_same_at_once_leave_one_object(stores: Stores) -> None:
    meeting = threading.Barrier(2)

    def content() -> Iterator[bytes]:
        meeting.wait(60)
        yield DATA

    blobs = await asyncio.gather(*(stores.blobs.put(DIGEST, content()) for _ in range(2)))
    assert blobs[0] == blobs[1]
    assert await everything(stores) == ([DIGEST], [], [blobs[0].key])


async def test_a_lying_digest_stores_nothing(stores: Stores) -> None:
    with pytest.raises(DigestMismatch):
        await stores.blobs.put(Digest.of(b"something else"), [b"abc"])
    assert await everything(stores) == NOTHING


async def test_content_that_breaks_off_stores_nothing(stores: Stores) -> None:
    def content() -> Iterator[bytes]:
        yield b"abc"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await stores.blobs.put(Digest.of(b"abcdef"), content())
    assert await everything(stores) == NOTHING


async def test_a_cancelled_put_stores_nothing_though_its_thread_goes_on(stores: Stores) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def content() -> Iterator[bytes]:
        yield DATA[:10]
        reading.set()
        go_on.wait(60)
        yield DATA[10:]

    putting = asyncio.create_task(stores.blobs.put(DIGEST, content()))
    await asyncio.to_thread(reading.wait, 60)
    putting.cancel()
    await asyncio.sleep(0)
    # what the thread has begun is known for as long as it may be there
    assert len(await stores.pending()) == len(stores.files()) == 1
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await everything(stores) == NOTHING


async def test_a_cancelled_put_ends_soon_however_much_would_come(stores: Stores) -> None:
    reading = threading.Event()

    def content() -> Iterator[bytes]:
        while True:
            yield b"more"
            reading.set()

    putting = asyncio.create_task(stores.blobs.put(DIGEST, content()))
    await asyncio.to_thread(reading.wait, 60)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await everything(stores) == NOTHING


async def test_a_put_may_be_cancelled_at_any_moment(stores: Stores) -> None:
    """Whatever it was at, the blob is whole or it is not there; and nothing else is left."""
    for steps in range(0, 200, 3):
        data = f"{steps}".encode() * 1000
        putting = asyncio.create_task(stores.blobs.put(Digest.of(data), [data]))
        for _ in range(steps):
            await asyncio.sleep(0)
        putting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await putting
    digests, _, files = await everything(stores)
    # keys that were recorded when nobody was left to be told of them expire
    assert {blob.key for blob in await stores.stored()} == set(files)
    for digest in digests:
        assert Digest.of(await stores.content(digest)) == digest


# finding


async def test_what_is_not_stored_is_unknown(stores: Stores) -> None:
    with pytest.raises(BlobUnknown, match=DIGEST):
        await stores.blobs.find(DIGEST)
    with pytest.raises(BlobUnknown):
        await stores.content(DIGEST)


async def test_what_is_needed_is_safe_for_a_while(stores: Stores) -> None:
    one, other = [await stores.blobs.put(Digest.of(data), [data]) for data in (b"one", b"other")]
    await make_old(stores)
    assert await stores.blobs.need([one.digest, DIGEST]) == {one.digest: one}
    assert await used(stores, one.digest) > time.time() - 60
    assert await used(stores, other.digest) == 1.0
    assert await stores.blobs.need([]) == {}


async def test_lost_bytes_are_told(stores: Stores) -> None:
    blob = await stores.blobs.put(DIGEST, [DATA])
    assert blob.key
    stores.objects.delete([blob.key])
    with pytest.raises(ObjectMissing):
        await stores.content(DIGEST)


# adopting objects that others have written


async def test_an_object_becomes_a_blob_when_it_is_adopted(stores: Stores) -> None:
    async with stores.blobs.pending() as key:
        blob = await written(stores, key)
        assert await everything(stores) == ([], [key], [key])
        assert await stores.blobs.adopt(blob) == blob
        assert await everything(stores) == ([DIGEST], [], [key])
    assert await stores.content(DIGEST) == DATA


async def test_an_object_that_is_not_adopted_is_deleted(stores: Stores) -> None:
    async with stores.blobs.pending() as key:
        await written(stores, key)
    assert await everything(stores) == NOTHING
    with contextlib.suppress(ZeroDivisionError):
        async with stores.blobs.pending() as key:
            await written(stores, key)
            raise ZeroDivisionError
    assert await everything(stores) == NOTHING


async def test_of_two_objects_of_a_digest_the_first_stays(stores: Stores) -> None:
    first = await stores.blobs.put(DIGEST, [DATA])
    async with stores.blobs.pending() as key:
        assert await stores.blobs.adopt(await written(stores, key)) == first
    assert await everything(stores) == ([DIGEST], [], [first.key])


async def test_what_was_given_up_is_not_adopted(stores: Stores) -> None:
    [key] = await stores.blobs.reserve(1)
    blob = await written(stores, key)
    await stores.blobs.release([key])
    with pytest.raises(WriteExpired):
        await stores.blobs.adopt(blob)
    assert await everything(stores) == NOTHING


async def test_only_what_is_pending_is_released(stores: Stores) -> None:
    blob = await stores.blobs.put(DIGEST, [DATA])
    assert blob.key
    await stores.blobs.release([blob.key, "0" * 32])
    assert await everything(stores) == ([DIGEST], [], [blob.key])


# layers


async def test_a_layer_is_known_by_its_key(either: Stores) -> None:
    made = layer(b"head", either.fragment("a" * 64, b"body"), data=b"headbody")
    assert await either.layers.find([made.key]) == {}
    await put_layers(either.layers, made)
    await make_old(either)
    found = await either.layers.find([made.key, "m" * 64])
    assert [(key, each.digest, each.size) for key, each in found.items()] == [(made.key, made.join.digest, 8)]
    assert (found[made.key].diff_id, found[made.key].uncompressed_size) == (made.diff_id, 17)
    assert await used(either, made.join.digest) > time.time() - 60
    assert await either.content(made.join.digest) == b"headbody"
    await put_layers(either.layers, made)
    assert await either.layers.find([made.key]) == found
    assert await either.pending() == []


async def test_a_layer_is_forgotten_with_its_blob(either: Stores) -> None:
    made = layer(either.fragment("a" * 64, b"body"), data=b"body")
    await put_layers(either.layers, made)
    async with either.database.writing() as connection:
        await connection.execute(tables.blob.delete())
    assert await either.layers.find([made.key]) == {}
    assert await either.rows(tables.fragment_use.select()) == []


async def test_fragments_have_to_be_there(either: Stores) -> None:
    there = layer(either.fragment("a" * 64, b"body"), data=b"body")
    gone = Layer("g" * 64, Join(Digest.of(b"gone"), (FragmentPart("b" * 64, 4),)), DIGEST, 4)
    with pytest.raises(FragmentsGone) as caught:
        await put_layers(either.layers, there, gone)
    assert caught.value.keys == ("b" * 64,)
    assert await either.layers.find([gone.key]) == {}
    with pytest.raises(BlobUnknown):
        await either.blobs.find(gone.join.digest)
    assert await either.pending() == []


async def test_a_fragment_that_is_lost(stores: Stores) -> None:
    made = layer(b"head", stores.fragment("a" * 64, b"body"), data=b"headbody")
    await put_layers(stores.layers, made)
    blob = await stores.blobs.find(made.join.digest)
    stores.blobs.fragment_path("a" * 64).unlink()
    with pytest.raises(ObjectMissing, match="a" * 64):
        stores.blobs.segments(blob)


async def test_a_disk_that_does_not_take_a_fragment(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    made = layer(stores.fragment("a" * 64, b"body"), data=b"body")
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        await put_layers(stores.layers, made)
    assert await stores.layers.find([made.key]) == {}


async def test_joins_say_which_fragments_they_need(stores: Stores) -> None:
    parts = [stores.fragment(key * 64, key.encode()) for key in "ab"]
    made = layer(b"-", *parts, parts[0], data=b"-aba")
    await put_layers(stores.layers, made)
    uses = await stores.rows(tables.fragment_use.select().order_by(tables.fragment_use.c.fragment))
    assert [(row.fragment, row.digest) for row in uses] == [(part.key, made.join.digest) for part in parts]
    assert stores.files() == []


async def test_a_digest_has_its_bytes_in_one_form(stores: Stores) -> None:
    """Whichever was first: a join needs its fragments, an object does not."""
    made = layer(stores.fragment("a" * 64, b"body"), data=b"body")
    blob = await stores.blobs.put(made.join.digest, [b"body"])
    await put_layers(stores.layers, made)
    assert await stores.blobs.find(made.join.digest) == blob
    assert await stores.rows(tables.fragment_use.select()) == []
    assert await stores.layers.find([made.key])
    other = Layer("o" * 64, Join(Digest.of(b"a"), (stores.fragment("b" * 64, b"a"),)), DIGEST, 1)
    await put_layers(stores.layers, other)
    joined = await stores.blobs.put(other.join.digest, [b"a"])
    assert (joined.key, joined.parts) == (None, other.join.parts)
    assert await everything(stores) == (sorted([blob.digest, joined.digest]), [], [blob.key])


async def test_stores_that_are_not_local_get_whole_objects(tmp_path: Path, database_url: str) -> None:
    async with open_stores(tmp_path, url=database_url, joins=False) as stores:
        made = layer(b"head", stores.fragment("a" * 64, b"body"), data=b"headbody")
        await put_layers(stores.layers, made)
        blob = await stores.blobs.find(made.join.digest)
        assert blob.parts == ()
        assert await everything(stores) == ([made.join.digest], [], [blob.key])
        assert await stores.rows(tables.fragment_use.select()) == []
        stores.blobs.fragment_path("a" * 64).unlink()
        assert await stores.content(made.join.digest) == b"headbody"


@settings(deadline=None)
@given(
    parts=st.lists(st.tuples(st.binary(max_size=40), st.booleans()), min_size=1, max_size=6),
    joins=st.booleans(),
    data=st.data(),
)
def test_a_join_is_a_blob(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[bytes, bool]], joins: bool, data: st.DataObject
) -> None:
    whole = b"".join(part for part, _ in parts)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))

    async def check() -> None:
        async with open_stores(tmp_path_factory.mktemp("store"), joins=joins) as stores:
            stored = [
                stores.fragment(f"{number:064x}", part) if is_fragment else part
                for number, (part, is_fragment) in enumerate(parts)
            ]
            await put_layers(stores.layers, layer(*stored, data=whole))
            blob = await stores.blobs.find(Digest.of(whole))
            assert blob.size == len(whole)
            assert b"".join(stores.blobs.read(blob)) == whole
            found = [b"".join(read_segment(each, 7)) for each in stores.blobs.segments(blob, start, stop)]
            assert b"".join(found) == whole[start:stop]

    asyncio.run(check())
