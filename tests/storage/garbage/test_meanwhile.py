"""Pushes in the middle of a garbage collection: each finds what it needs, or is told that it is gone.

Everything in the store is garbage of old age when both begin. Either the push has done its work, and not committed it
yet, when the collection looks; or the collection has deleted something, and not committed that yet, when the push does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.store import BlobStore
from storage.catalog.parts import Catalog
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Digest
from storage.errors import BlobUnknown, ManifestBlobUnknown, UploadUnknown, WriteExpired
from storage.garbage.collection import Garbage
from storage.repositories.pushed import Repositories
from storage.repositories.rows import Push
from storage.repositories.uploads import Received, Upload, Uploads
from tests.support.storage.ageing import make_old
from tests.support.storage.content import AT_ONCE, ROOT, Content, push_of

OLD = replace(AT_ONCE, grace=3600, upload_seconds=3600, untagged_for=3600, image_retention=3600)
MOMENT = 0.1
"""For the other to run into what is held."""

REFUSALS = (BlobUnknown, ManifestBlobUnknown, UploadUnknown, WriteExpired)


class HeldDatabase(Database):
    """Asks before each commit of a writing transaction."""

    ask: Callable[[], Awaitable[None]]

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        async with super().writing() as connection:
            yield connection
            await self.ask()


class Hold:
    """Stops whoever asks for the `number`th time, until told to go on."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self) -> None:
        self._number -= 1
        if self._number == 0:
            self.reached.set()
            await self.go_on.wait()


@dataclass(frozen=True)
class Client:
    """Somebody who pushes, over a database of their own, where there is garbage of every kind."""

    content: Content
    name: str
    blobs: BlobStore
    repositories: Repositories
    uploads: Uploads
    catalog: Catalog
    image: Digest
    index: Digest
    upload: Upload
    received: Received

    def data(self, text: str) -> bytes:
        """Content that no other client has."""
        return f"{text} of one who {self.name}".encode()

    @property
    def tag(self) -> str:
        return self.name.replace(" ", "-")

    async def assert_there(self, repository: str, text: str) -> None:
        blob = await self.content.repositories.blob(repository, Digest.of(self.data(text)))
        assert await asyncio.to_thread(lambda: b"".join(self.content.stores.blobs.read(blob))) == self.data(text)


async def prepare(content: Content, name: str, database: Database) -> Client:
    """A client called `name`, and garbage that is not old yet."""
    data = [f"{text} of one who {name}".encode() for text in ("one", "two", "three", "four", "five", "six")]
    image = await content.push_image("a", None, *data[:2])
    index = await content.push_manifest("a", None, children=[image])
    await content.make_image(f"i {name}", *data[1:3])
    file = await content.stores.blobs.put(Digest.of(data[3]), [data[3]])
    await content.stores.catalog.artifacts.put(f"f {name}", "lock", {}, file.digest)
    upload = await content.chunk(await content.uploads.open("a", "me"), data[4])
    [key] = await content.stores.blobs.reserve(1)
    received = content.receive(key, data[5])
    blobs = BlobStore(database, content.stores.objects, content.stores.root / "fragments")
    repositories = Repositories(database, content.changes)
    uploads, catalog = Uploads(blobs, repositories), Catalog.of(database)
    return Client(content, name, blobs, repositories, uploads, catalog, image, index, upload, received)


async def push_blob(client: Client) -> None:
    own = replace(client.content, repositories=client.repositories, uploads=client.uploads)
    await own.push_blob("a", client.data("one"))


async def has_blob(client: Client) -> None:
    await client.assert_there("a", "one")


async def mount(client: Client) -> None:
    digest = Digest.of(client.data("one"))
    if not await client.repositories.mount("elsewhere", digest, "a", lambda _: True):
        raise BlobUnknown(digest)


async def has_mounted(client: Client) -> None:
    await client.assert_there("elsewhere", "one")


def new_manifest(client: Client) -> Push:
    return push_of([client.data("one"), client.data("two")], name="new")


async def push_manifest(client: Client) -> None:
    await client.repositories.put_manifest("a", new_manifest(client), [client.tag])


async def has_manifest(client: Client) -> None:
    stored = await client.content.repositories.find_tagged("a", client.tag)
    assert stored
    assert stored.digest == new_manifest(client).manifest.digest
    for text in ("one", "two"):
        await client.assert_there("a", text)


async def tag_index(client: Client) -> None:
    await client.repositories.put_manifest("a", push_of([], [client.image]), [client.tag])


async def has_index(client: Client) -> None:
    """With its child, unless that was gone before: then it is an index of something that is not here."""
    stored = await client.content.repositories.find_tagged("a", client.tag)
    assert stored
    assert stored.digest == client.index
    if await client.content.repositories.manifest("a", client.image):
        for text in ("one", "two"):
            await client.assert_there("a", text)


async def finish_upload(client: Client) -> None:
    await client.uploads.finish(client.upload, Digest.of(client.data("five")))


async def has_uploaded(client: Client) -> None:
    await client.assert_there("a", "five")


async def claim(client: Client) -> None:
    await client.uploads.store("a", Digest.of(client.data("six")), client.received)


async def has_claimed(client: Client) -> None:
    await client.assert_there("a", "six")


async def put_image(client: Client) -> None:
    pushes = [push_of([client.data("one"), client.data("three")], name="new image")]
    await client.catalog.images.put(f"new {client.name}", "lock", {}, ROOT, pushes)


async def has_image(client: Client) -> None:
    assert await client.content.stores.catalog.images.find(f"new {client.name}") is not None
    for text in ("one", "three"):
        await client.assert_there(ROOT, text)


async def put_file(client: Client) -> None:
    await client.catalog.artifacts.put("g", "lock", {}, Digest.of(client.data("four")))


async def has_file(client: Client) -> None:
    assert await client.content.stores.catalog.artifacts.find("g") is not None
    assert await client.content.stores.content(Digest.of(client.data("four"))) == client.data("four")


async def find_blob(client: Client) -> None:
    digest = Digest.of(client.data("two"))
    if not await client.blobs.need([digest]):
        raise BlobUnknown(digest)


async def has_found(client: Client) -> None:
    assert await client.content.stores.content(Digest.of(client.data("two"))) == client.data("two")


Way = Callable[[Client], Coroutine[Any, Any, None]]

WAYS: dict[str, tuple[Way, Way]] = {
    "pushes a blob": (push_blob, has_blob),
    "mounts a blob": (mount, has_mounted),
    "pushes a manifest": (push_manifest, has_manifest),
    "tags an index": (tag_index, has_index),
    "finishes an upload": (finish_upload, has_uploaded),
    "claims an object": (claim, has_claimed),
    "makes an image": (put_image, has_image),
    "makes a file": (put_file, has_file),
    "finds a blob": (find_blob, has_found),
}
"""What clients do, and what must be there when they have succeeded."""

NEVER_REFUSED = {"pushes a blob", "tags an index"}
"""Those who bring with them all that they need."""


@pytest.fixture
async def held(database_url: str) -> AsyncIterator[HeldDatabase]:
    """A database of which one side's transactions can be held."""
    opened = HeldDatabase.open(database_url)
    yield opened
    await opened.close()


@pytest.mark.parametrize("way", WAYS)
async def test_a_collection_leaves_alone_what_a_push_is_about_to_commit(
    content: Content, held: HeldDatabase, way: str
) -> None:
    do, check = WAYS[way]
    client = await prepare(content, way, held)
    await make_old(content)
    hold = Hold(1)
    held.ask = hold
    push = asyncio.create_task(do(client))
    await hold.reached.wait()
    collecting = asyncio.create_task(content.collect(OLD))
    # PostgreSQL goes round it, SQLite has to wait for it
    await asyncio.wait([collecting], timeout=MOMENT)
    hold.go_on.set()
    await push
    await collecting
    await check(client)
    await content.assert_sound()
    await content.collect(OLD)
    await check(client)


@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.services)], indirect=True)
async def test_pushes_meet_a_collection_that_is_about_to_commit(content: Content, held: HeldDatabase) -> None:
    """At each of its commits, in turn: until there is one more than it makes.

    On SQLite there is no such meeting: who writes waits until the one who does so has committed.
    """
    ended, refused = False, set()
    for number in itertools.count(1):
        clients = [await prepare(content, way, content.stores.database) for way in WAYS]
        await make_old(content)
        held.ask = hold = Hold(number)
        blobs = BlobStore(held, content.stores.objects, content.stores.root / "fragments")
        collecting = asyncio.create_task(Garbage(blobs, content.changes, OLD).collect())
        reached = asyncio.create_task(hold.reached.wait())
        await asyncio.wait([collecting, reached], return_when=asyncio.FIRST_COMPLETED)
        ended = not reached.done()
        reached.cancel()
        pushes = [asyncio.create_task(WAYS[client.name][0](client)) for client in clients]
        await asyncio.wait(pushes, timeout=MOMENT)
        hold.go_on.set()
        outcomes = await asyncio.gather(*pushes, return_exceptions=True)
        await collecting
        for client, outcome in zip(clients, outcomes, strict=True):
            if outcome is None:
                await WAYS[client.name][1](client)
            else:
                assert isinstance(outcome, REFUSALS), (client.name, outcome)
                refused.add(client.name)
        await content.assert_sound()
        await empty(content)
        if ended:
            break
    assert refused == WAYS.keys() - NEVER_REFUSED


async def empty(content: Content) -> None:
    for row in await content.stores.rows(select(tables.tag)):
        await content.repositories.delete_tag(row.repository, row.name)
    await content.collect(replace(AT_ONCE, untagged_for=-1000))
    assert await content.counts() == {}
    assert content.stores.files() == []
