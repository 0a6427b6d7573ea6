"""Blobs: what is put comes back, and nothing half-written is ever known or left."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator

import pytest

from storage.digest import Digest
from storage.errors import BlobUnknown, DigestMismatch, ObjectMissing, WriteExpired
from tests.support.storage.blobs import DATA, DIGEST, NOTHING, everything, make_old, read_use, write_object
from tests.support.storage.stores import Stores


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
    assert await read_use(stores, DIGEST) > time.time() - 60
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
    assert await read_use(stores, one.digest) > time.time() - 60
    assert await read_use(stores, other.digest) == 1.0
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
        blob = await write_object(stores, key)
        assert await everything(stores) == ([], [key], [key])
        assert await stores.blobs.adopt(blob) == blob
        assert await everything(stores) == ([DIGEST], [], [key])
    assert await stores.content(DIGEST) == DATA


async def test_an_object_that_is_not_adopted_is_deleted(stores: Stores) -> None:
    async with stores.blobs.pending() as key:
        await write_object(stores, key)
    assert await everything(stores) == NOTHING
    with contextlib.suppress(ZeroDivisionError):
        async with stores.blobs.pending() as key:
            await write_object(stores, key)
            raise ZeroDivisionError
    assert await everything(stores) == NOTHING


async def test_of_two_objects_of_a_digest_the_first_stays(stores: Stores) -> None:
    first = await stores.blobs.put(DIGEST, [DATA])
    async with stores.blobs.pending() as key:
        assert await stores.blobs.adopt(await write_object(stores, key)) == first
    assert await everything(stores) == ([DIGEST], [], [first.key])


async def test_what_was_given_up_is_not_adopted(stores: Stores) -> None:
    [key] = await stores.blobs.reserve(1)
    blob = await write_object(stores, key)
    await stores.blobs.release([key])
    with pytest.raises(WriteExpired):
        await stores.blobs.adopt(blob)
    assert await everything(stores) == NOTHING


async def test_only_what_is_pending_is_released(stores: Stores) -> None:
    blob = await stores.blobs.put(DIGEST, [DATA])
    assert blob.key
    await stores.blobs.release([blob.key, "0" * 32])
    assert await everything(stores) == ([DIGEST], [], [blob.key])
