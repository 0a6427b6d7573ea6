"""A collection that dies at any of its steps: nothing is lost by that, and the next one does the rest."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.store import BlobStore
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Digest
from storage.errors import StorageError, StorageUnavailable
from storage.garbage.collection import Garbage
from storage.objects.files import FileObjects
from tests.support.storage.ageing import make_old
from tests.support.storage.content import AT_ONCE, Content
from tests.support.wide import WIDE

OLD = replace(AT_ONCE, grace=3600, upload_seconds=3600, untagged_for=3600, image_retention=3600)


class Death(Exception):
    """Not known to anything that could catch it."""


ERRORS = (Death(), StorageUnavailable("the database", "it went away"))


class Fate:
    """Lets the `number`th step fail, with `error`."""

    def __init__(self, number: int, error: Exception) -> None:
        self._left = number
        self._error = error

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise self._error


class DyingDatabase(Database):
    """Has a step before and one after each commit."""

    fate: Fate

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        async with super().writing() as connection:
            yield connection
            self.fate()
        self.fate()


class DyingObjects(FileObjects):
    """Has a step before and one after each deletion."""

    fate: Fate

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.fate()
            super().delete([key])
        self.fate()


async def prepare(content: Content, number: int) -> None:
    """Something of each kind that is needed, and that is not; all of it old."""
    live, dead, shared = (f"{text} {number}".encode() for text in ("live", "dead", "shared"))
    image = await content.push_image("live", f"v{number}", live, shared)
    child = await content.push_image("live", None, live, shared)
    await content.push_manifest("live", f"i{number}", children=[child], name=str(number))
    await content.push_manifest("live", None, subject=image, name="signature")
    untagged = await content.push_image("dead", None, dead, shared)
    index = await content.push_manifest("dead", None, children=[untagged])
    await content.push_manifest("dead", None, subject=index, name="signature")
    await content.push_blob("live", b"never named " + dead)
    await content.make_image("old", b"image " + dead, shared)
    await content.put_join("layer", b"join", "f" * 64)
    await content.chunk(await content.chunk(await content.uploads.open("dead", "me"), dead), dead)
    [key] = await content.stores.blobs.reserve(1)
    content.receive(key, dead)
    await make_old(content)
    await content.make_image("new", live, shared)
    file = await content.stores.blobs.put(Digest.of(b"file"), [b"file"])
    await content.stores.catalog.artifacts.put("f", "lock", {}, file.digest)


async def assert_live_is_whole(content: Content, number: int) -> None:
    await content.assert_sound()
    for text in ("live", "shared"):
        data = f"{text} {number}".encode()
        assert await content.repositories.blob("live", Digest.of(data))
        assert await content.stores.content(Digest.of(data)) == data
    for tag in (f"v{number}", f"i{number}"):
        assert await content.repositories.find_tagged("live", tag)
    assert len(await content.manifests("live")) == 3
    assert await content.stores.catalog.images.find("new") is not None
    assert await content.stores.content(Digest.of(b"file")) == b"file"


async def assert_dead_is_gone(content: Content, number: int) -> None:
    assert await content.manifests("dead") == set()
    assert not await content.repositories.exists("dead")
    assert await content.stores.catalog.images.find("old") is None
    data = [f"live {number}".encode(), f"shared {number}".encode(), b"file"]
    assert await content.blobs() == set(map(Digest.of, data))
    assert len(content.stores.files()) == 3
    assert await content.stores.pending() == []
    assert await content.count(tables.upload) == 0


@pytest.fixture
async def mortal(content: Content, database_url: str) -> AsyncIterator[BlobStore]:
    """The content's blobs, over a database and a store that die."""
    database = DyingDatabase.open(database_url)
    yield BlobStore(database, DyingObjects(content.stores.root / "blobs"), content.stores.root / "fragments")
    await database.close()


async def dies(content: Content, blobs: BlobStore, fate: Fate) -> bool:
    """Whether the collection does not come to its end."""
    blobs.database.fate = blobs.objects.fate = fate  # type: ignore[attr-defined] # they are the mortal ones
    try:
        await Garbage(blobs, content.changes, OLD).collect()
    except (Death, StorageError):
        return True
    return False


@pytest.mark.parametrize("error", [*ERRORS] if WIDE else [None])
async def test_at_every_step(content: Content, mortal: BlobStore, error: Exception | None) -> None:
    """Each kind of error at each; else in turn, at every second, and on PostgreSQL, where it takes longer, at every
    fifth."""
    stride = 1 if WIDE else 2 if content.stores.database.dialect == "sqlite" else 5
    for number in itertools.count(1, stride):
        await prepare(content, number)
        died = await dies(content, mortal, Fate(number, error or ERRORS[number // 2 % 2]))
        await assert_live_is_whole(content, number)
        if died:
            await content.collect(OLD)
            await assert_live_is_whole(content, number)
        await assert_dead_is_gone(content, number)
        for tag in await content.tags("live"):
            await content.repositories.delete_tag("live", tag)
        await content.collect(replace(AT_ONCE, untagged_for=-1000))
        assert await content.counts() == {}
        if not died:
            break
    assert number > 20


async def test_again_and_again(content: Content, mortal: BlobStore) -> None:
    """Each one dies a little later than the one before it."""
    await prepare(content, 1)
    for number in itertools.count(1):
        if not await dies(content, mortal, Fate(2 + number, Death())):
            break
        await assert_live_is_whole(content, 1)
    await assert_dead_is_gone(content, 1)
    assert number > 4
