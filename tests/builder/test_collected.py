"""Builds whose parts are deleted while they are made, as by garbage collection and evictions: they are made again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from builder.artifacts.artifact import Artifact, make_artifact_key
from builder.build import ATTEMPTS, Builder
from builder.layers.assembly import Layers
from builder.locks.lock import Lock
from builder.progress import Event
from storage.blobs.layers import LayerStore
from storage.catalog.artifacts import Artifacts
from storage.catalog.images import Images
from storage.catalog.made import Made
from storage.database import tables
from storage.database.engine import Database
from storage.digest import Digest
from storage.errors import StorageError, StorageUnavailable
from storage.layout import DataDirectory
from storage.repositories.rows import Push
from tests.support.builder.packages import Package
from tests.support.builder.pools import CountingPool
from tests.support.builder.services import make_channel, open_service, spec_of

SMALL = Package("small", files={"share/small": b"small"})
OTHER = Package("other", files={"share/other": b"other"})


@dataclass
class Loss:
    """Deletes blobs a number of times, just before they are recorded as needed."""

    times: int
    chosen: Callable[[Sequence[str]], Sequence[str]]
    seen: int = field(default=0, init=False)

    async def happen(self, database: Database, digests: Sequence[str]) -> None:
        self.seen += 1
        if self.seen <= self.times:
            async with database.writing() as connection:
                await connection.execute(tables.link.delete())
                await connection.execute(tables.blob.delete().where(tables.blob.c.digest.in_(self.chosen(digests))))


class LosingImages(Images):
    def __init__(self, database: Database, loss: Loss) -> None:
        super().__init__(database, Made(database))
        self.database = database
        self.loss = loss

    async def put(
        self, key: str, lock_key: str, document: Mapping[str, Any], repository: str, pushes: Sequence[Push]
    ) -> None:
        digests = sorted({blob.digest for push in pushes for blob in push.blobs})
        await self.loss.happen(self.database, digests)
        await super().put(key, lock_key, document, repository, pushes)


class LosingArtifacts(Artifacts):
    def __init__(self, database: Database, loss: Loss) -> None:
        super().__init__(database, Made(database))
        self.database = database
        self.loss = loss

    async def put(self, key: str, lock_key: str, document: Mapping[str, Any], digest: Digest) -> None:
        await self.loss.happen(self.database, [digest])
        await super().put(key, lock_key, document, digest)


@contextlib.asynccontextmanager
async def builder_and_lock(
    tmp_path: Path, *, joins: bool = True, **settings: Any
) -> AsyncIterator[tuple[Builder, Lock]]:
    channel = await make_channel(tmp_path / "channel", [SMALL, OTHER])
    async with open_service(tmp_path / "data", channel, joins=joins, **settings) as service:
        yield service.builder, await service.lock(spec_of(service, "small", "other"))


def losing(
    builder: Builder, times: int, chosen: Callable[[Sequence[str]], Sequence[str]] = list
) -> tuple[Builder, Loss]:
    loss = Loss(times, chosen)
    database = builder.blobs.database
    catalog = replace(builder.catalog, images=LosingImages(database, loss), artifacts=LosingArtifacts(database, loss))
    return replace(builder, catalog=catalog), loss


async def assert_whole(builder: Builder, digests: Sequence[str]) -> None:
    assert digests
    for digest in digests:
        assert Digest.of(await builder.blobs.content(Digest(digest))) == digest


async def blobs_of(builder: Builder) -> list[str]:
    async with builder.blobs.database.reading() as connection:
        return list((await connection.execute(tables.link.select())).scalars("digest"))


@pytest.mark.parametrize("joins", [True, False], ids=["joins", "objects"])
@pytest.mark.parametrize("base", ["scratch", "host"])
@pytest.mark.parametrize("position", [None, 0, 1, 2])
async def test_lost_blobs_of_an_image_are_made_again(
    tmp_path: Path, joins: bool, base: str, position: int | None
) -> None:
    async with builder_and_lock(tmp_path, joins=joins, base=base) as (builder, lock):
        losing_builder, loss = losing(builder, 1, lambda all_: all_ if position is None else [all_[position]])
        image = await losing_builder.image(lock)
        assert loss.seen == 2
        await assert_whole(builder, await blobs_of(builder))
        assert await builder.image(lock) == image


async def test_what_is_always_lost_is_told_as_what_may_pass(tmp_path: Path) -> None:
    async with builder_and_lock(tmp_path) as (builder, lock):
        losing_builder, loss = losing(builder, ATTEMPTS)
        with pytest.raises(StorageUnavailable, match="deleted before they can be used"):
            await losing_builder.image(lock)
        assert loss.seen == ATTEMPTS
        assert await losing_builder.image(lock)


async def test_a_lost_file_is_made_again(tmp_path: Path) -> None:
    async with builder_and_lock(tmp_path) as (builder, lock):
        losing_builder, loss = losing(builder, 1)
        await losing_builder.artifact(lock, "explicit.txt")
        assert loss.seen == 2
        document = await builder.catalog.artifacts.find(make_artifact_key(lock.key, "explicit.txt"))
        assert document
        await assert_whole(builder, [Artifact.from_json(document).digest])


@pytest.mark.parametrize("joins", [True, False], ids=["joins", "objects"])
async def test_fragments_that_are_evicted_before_their_layer_is_stored(tmp_path: Path, joins: bool) -> None:
    async with builder_and_lock(tmp_path, joins=joins) as (builder, lock), CountingPool() as pool:
        evictions: list[Path] = []

        def evict(_task: object) -> None:
            if not evictions:
                evictions.extend(fragments(builder.data))
                for path in evictions:
                    path.unlink()

        pool.then = evict
        layers = Layers(LayerStore(builder.blobs), pool)
        await replace(builder, layers=layers).image(lock)
        await layers.close()
        assert evictions
        await assert_whole(builder, await blobs_of(builder))


@pytest.mark.parametrize("times", [1, ATTEMPTS])
async def test_fragments_that_are_evicted_before_the_environment_is_written(tmp_path: Path, times: int) -> None:
    """Where layers do not need their fragments any more: what prefix records say is beside the fragments."""
    async with builder_and_lock(tmp_path, joins=False) as (builder, lock):
        evictions = 0

        def evict(event: Event) -> None:
            nonlocal evictions
            if event.stage == "layers" and event.done == event.total and evictions < times:
                evictions += 1
                for path in fragments(builder.data):
                    path.unlink()

        if times < ATTEMPTS:
            await builder.image(lock, evict)
            await assert_whole(builder, await blobs_of(builder))
        else:
            with pytest.raises(StorageError, match="deleted before they can be used"):
                await builder.image(lock, evict)
        assert evictions == times


def fragments(data: DataDirectory) -> list[Path]:
    return [path for path in data.fragments.rglob("*") if path.is_file()]
