"""The blob store from threads, while its event loop runs and when it is closed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.blobs.blocking import StoreInThreads
from storage.database import tables
from storage.digest import Digest
from storage.errors import BlobUnknown, DigestMismatch, ServerStopping
from tests.support.storage.stores import Stores, open_stores

DATA = b"data" * 1000
DIGEST = Digest.of(DATA)


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    async with open_stores(tmp_path) as stores:
        yield stores


async def test_what_is_put_comes_back(stores: Stores) -> None:
    blobs = StoreInThreads(stores.blobs)

    def work() -> None:
        with pytest.raises(BlobUnknown):
            blobs.read(DIGEST)
        with pytest.raises(DigestMismatch):
            blobs.put(DIGEST, [b"other"])
        assert blobs.sizes([DIGEST]) == {}
        assert blobs.put(DIGEST, [DATA]) == len(DATA)
        assert blobs.sizes([DIGEST, Digest.of(b"")]) == {DIGEST: len(DATA)}
        assert b"".join(blobs.read(DIGEST)) == DATA

    await asyncio.to_thread(work)


async def test_what_is_asked_for_is_safe_from_garbage_collection(stores: Stores) -> None:
    await stores.blobs.put(DIGEST, [DATA])
    async with stores.database.writing() as connection:
        await connection.execute(tables.blob.update().values(used=1.0))
    await asyncio.to_thread(StoreInThreads(stores.blobs).sizes, [DIGEST])
    [row] = await stores.rows(tables.blob.select())
    assert row.used > time.time() - 60


async def test_closing_ends_what_no_cancellation_reaches(stores: Stores) -> None:
    blobs = StoreInThreads(stores.blobs)
    reading = threading.Event()

    def content() -> Iterator[bytes]:
        while True:
            yield b"more"
            reading.set()

    putting = asyncio.create_task(asyncio.to_thread(blobs.put, DIGEST, content()))
    await asyncio.to_thread(reading.wait, 60)
    blobs.close()
    with pytest.raises(ServerStopping, match="stopping"):
        await putting
    with pytest.raises(ServerStopping, match="stopping"):
        await asyncio.to_thread(blobs.sizes, [DIGEST])
    while await stores.pending():
        await asyncio.sleep(0.01)
    assert (await stores.stored(), stores.files()) == ([], [])
