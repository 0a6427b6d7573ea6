"""Blobs and layers that tests write."""

from __future__ import annotations

from storage.blobs.joins import FragmentPart, Join, Layer
from storage.blobs.rows import StoredBlob
from storage.database import tables
from storage.digest import Digest
from storage.objects.protocol import writing
from tests.support.storage.stores import Stores

DATA = b"x" * 3_000_000
DIGEST = Digest.of(DATA)


async def everything(stores: Stores) -> tuple[list[Digest], list[str], list[str]]:
    """The digests that have bytes, the pending keys, and the files."""
    return sorted(blob.digest for blob in await stores.stored()), await stores.pending(), stores.files()


NOTHING: tuple[list[Digest], list[str], list[str]] = ([], [], [])


async def write_object(stores: Stores, key: str, data: bytes = DATA) -> StoredBlob:
    """An object with `data` that is not a blob yet."""
    with writing(stores.objects, key) as writer:
        writer.write(data)
    return StoredBlob(Digest.of(data), len(data), key)


async def make_old(stores: Stores) -> None:
    async with stores.database.writing() as connection:
        await connection.execute(tables.blob.update().values(used=1.0))


async def read_use(stores: Stores, digest: Digest) -> float:
    [row] = await stores.rows(tables.blob.select().where(tables.blob.c.digest == digest))
    return float(row.used)


def layer(*parts: bytes | FragmentPart, data: bytes) -> Layer:
    return Layer("l" * 64, Join(Digest.of(data), parts), Digest.of(b"diff"), 17)
