"""Layers that are joins of fragments: known by their keys, and blobs like any other."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.blobs.joins import FragmentPart, Join, Layer
from storage.database import tables
from storage.digest import Digest
from storage.errors import BlobUnknown, FragmentsGone, ObjectMissing, StorageUnavailable
from storage.objects.segments import read_segment
from tests.support.storage.blobs import DIGEST, everything, layer, make_old, read_use
from tests.support.storage.stores import Stores, open_stores, put_layers


async def test_a_layer_is_known_by_its_key(either: Stores) -> None:
    made = layer(b"head", either.fragment("a" * 64, b"body"), data=b"headbody")
    assert await either.layers.find([made.key]) == {}
    await put_layers(either.layers, made)
    await make_old(either)
    found = await either.layers.find([made.key, "m" * 64])
    assert [(key, each.digest, each.size) for key, each in found.items()] == [(made.key, made.join.digest, 8)]
    assert (found[made.key].diff_id, found[made.key].uncompressed_size) == (made.diff_id, 17)
    assert await read_use(either, made.join.digest) > time.time() - 60
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
