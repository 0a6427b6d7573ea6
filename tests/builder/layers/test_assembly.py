"""Layers made and stored: once each, whatever fails beside them, and again when something of them is gone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence, Set
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from builder.errors import PackageRefused
from builder.layers import assembly as module
from builder.layers.assembly import Layers, OnLayer
from builder.layers.layer import AssembledLayer, LayerTask, assemble_all
from builder.work import shares
from builder.work.claims import Caller, Claim, current_claim, on_behalf_of
from builder.work.pool import WorkerPool
from storage.blobs.joins import Layer
from storage.database import tables
from storage.digest import Digest
from storage.errors import FragmentsGone
from tests.support.builder.layers import layer_task
from tests.support.builder.packages import Package
from tests.support.builder.pools import CountingPool
from tests.support.storage.stores import Stores, open_stores

ALPHA = Package("alpha", files={"share/alpha": os.urandom(300_000)})
BETA = Package("beta", files={"share/beta": os.urandom(3000)})
GAMMA = Package("gamma", files={"share/gamma": b"gamma"})


@pytest.fixture(params=[True, False], ids=["joins", "objects"])
async def stores(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    async with open_stores(tmp_path / "data", joins=request.param) as stores:
        yield stores


@pytest.fixture
async def pool() -> AsyncIterator[CountingPool]:
    async with CountingPool() as pool:
        yield pool


@pytest.fixture
async def layers(stores: Stores, pool: CountingPool) -> AsyncIterator[Layers]:
    layers = Layers(stores.layers, pool)
    yield layers
    await layers.close()


async def make(layers: Layers, tasks: list[LayerTask], report: OnLayer | None = None) -> list[AssembledLayer]:
    assembly = await layers.assemble(tasks, report or silent)
    await assembly.wait_until_stored()
    return assembly.layers


def silent(_done: int, _names: str) -> None:
    pass


async def stored_layers(stores: Stores) -> set[str]:
    return {row.key for row in await stores.rows(select(tables.layer.c.key))}


def lose(task: LayerTask) -> None:
    for fragment in task.fragments:
        task.path(fragment).unlink()


async def test_a_layer_is_stored_and_then_recalled(stores: Stores, layers: Layers, pool: CountingPool) -> None:
    tasks = [layer_task(stores.root, ALPHA, GAMMA), layer_task(stores.root, BETA)]
    told: list[tuple[int, str]] = []
    made = await make(layers, tasks, lambda done, names: told.append((done, names)))
    assert told == [(1, "alpha, gamma"), (2, "beta")]
    assert [layer.key for layer in made] == [task.key for task in tasks]
    for layer in made:
        content = await stores.content(layer.digest)
        assert (Digest.of(content), len(content)) == (layer.digest, layer.size)
    assert await make(layers, tasks[::-1]) == made[::-1]
    assert pool.assembled == ["alpha", "beta"]
    assert await stores.pending() == []


async def test_two_builds_that_want_a_layer_make_it_once(stores: Stores, layers: Layers, pool: CountingPool) -> None:
    task = layer_task(stores.root, ALPHA)
    made = await asyncio.gather(*(make(layers, [task]) for _ in range(5)))
    assert [each[0].digest for each in made] == [made[0][0].digest] * 5
    assert pool.assembled == ["alpha"]


async def test_whoever_shares_a_layer_does_not_wait_for_all_of_the_others_build(
    stores: Stores, layers: Layers, pool: CountingPool
) -> None:
    one, other = (Claim(Caller(name), lasting=True) for name in "ab")
    task, release = layer_task(stores.root, ALPHA), asyncio.Event()
    seen = list[tuple[Set[Caller], Claim]]()

    async def run(*arguments: Any) -> Any:
        seen.append((current_claim().list_waiting(), current_claim().origin))
        await release.wait()
        seen.append((current_claim().list_waiting(), current_claim().origin))
        return await WorkerPool.run(pool, *arguments)

    pool.run = run  # type: ignore[method-assign,assignment]  # a pool that waits until both have asked
    builds = []
    for claim in (one, other):
        with on_behalf_of(claim):
            builds.append(asyncio.create_task(make(layers, [task])))
        async with asyncio.timeout(10):
            while not seen or claim not in layers._makings[task.key].claim._joined:
                await asyncio.sleep(0.01)
    assert one.list_waiting() == {Caller("a")}, "it is done for one caller, but for the layer that two want"
    release.set()
    await asyncio.gather(*builds)
    assert seen[-1] == ({Caller("a"), Caller("b")}, one)


@pytest.mark.parametrize("shared", [True, False])
async def test_a_build_that_is_given_up_stops_the_layers_that_it_alone_wants(
    stores: Stores, layers: Layers, pool: CountingPool, shared: bool
) -> None:
    release, held, stopped = asyncio.Event(), list[str](), list[str]()

    async def run(doing: str, *arguments: Any) -> Any:
        held.append(doing)
        try:
            await release.wait()
        except asyncio.CancelledError:
            stopped.append(doing)
            raise
        return await WorkerPool.run(pool, doing, *arguments)

    pool.run = run  # type: ignore[method-assign,assignment]  # a pool whose workers are all busy
    tasks = [layer_task(stores.root, package) for package in (ALPHA, BETA, GAMMA)]

    async def begin(claim: Claim, tasks: list[LayerTask]) -> asyncio.Task[list[AssembledLayer]]:
        with on_behalf_of(claim):
            build = asyncio.create_task(make(layers, tasks))
        async with asyncio.timeout(10):
            while not layers._makings or not layers._makings[tasks[0].key].claim._joined[claim]:
                await asyncio.sleep(0.01)
        return build

    claims = [Claim(), Claim()]
    builds = [await begin(claim, tasks) for claim in claims[: 1 + shared]]
    first = sorted(held)
    assert first
    claims[0].give_up()
    builds[0].cancel()
    await asyncio.wait({builds[0]})
    # at once, while what was stopped is still ending
    later = asyncio.create_task(make(layers, tasks))
    await asyncio.sleep(0.05)
    assert sorted(stopped) == ([] if shared else first)
    release.set()
    for build in (*builds[1:], later):
        assert [layer.key for layer in await build] == [task.key for task in tasks]


async def test_a_caller_that_leaves_has_its_layers_made(stores: Stores, layers: Layers, pool: CountingPool) -> None:
    task = layer_task(stores.root, ALPHA)
    build = asyncio.create_task(make(layers, [task]))
    async with asyncio.timeout(10):
        while not pool.assembled:
            await asyncio.sleep(0.001)
        build.cancel()
        while task.key not in await stored_layers(stores):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("lost", ["fragment", "sidecar", "cut", "blob"])
async def test_what_is_lost_of_a_layer_is_made_again(
    stores: Stores, layers: Layers, pool: CountingPool, lost: str
) -> None:
    tasks = [layer_task(stores.root, ALPHA), layer_task(stores.root, BETA)]
    made = await make(layers, tasks)
    path = tasks[0].path(tasks[0].fragments[0])
    if lost == "blob":
        async with stores.database.writing() as connection:
            await connection.execute(tables.blob.delete().where(tables.blob.c.digest == made[0].digest))
    elif lost == "sidecar":
        Path(f"{path}.json").unlink()
    elif lost == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    assert await make(layers, tasks) == made
    assert pool.assembled == ["alpha", "beta", "alpha"]
    assert Digest.of(await stores.content(made[0].digest)) == made[0].digest
    assert path.exists()


async def test_fragments_that_go_while_a_layer_is_stored(stores: Stores, layers: Layers, pool: CountingPool) -> None:
    """As an eviction may take any fragment that no stored layer needs yet. The layers beside it are stored."""
    tasks = [layer_task(stores.root, ALPHA), layer_task(stores.root, BETA)]
    pool.then = lambda task: lose(task) if task is tasks[1] else None
    with pytest.raises(FragmentsGone) as caught:
        await make(layers, tasks)
    assert caught.value.keys == (tasks[1].fragments[0].recipe.key,)
    assert await stored_layers(stores) == {tasks[0].key}
    assert await stores.pending() == []
    pool.then = lambda task: None
    made = await make(layers, tasks)
    assert pool.assembled == ["alpha", "beta", "beta"]
    assert [Digest.of(await stores.content(layer.digest)) for layer in made] == [layer.digest for layer in made]


async def test_a_failure_costs_nothing_of_what_was_made(stores: Stores, layers: Layers, pool: CountingPool) -> None:
    listing = Package(files={"gone": b""}).info_files()["info/paths.json"]
    # with one worker, and the larger first, it is there when the other fails
    good, bad = layer_task(stores.root, ALPHA), layer_task(stores.root, Package("bad", info={"paths.json": listing}))
    with pytest.raises(PackageRefused, match="lists gone"):
        await make(layers, [bad, good])
    await layers.close()
    assert await stored_layers(stores) == {good.key}
    await make(Layers(stores.layers, pool), [good])
    assert pool.assembled == ["alpha", "bad"]


async def test_a_build_that_is_cancelled_keeps_what_was_made(
    stores: Stores, layers: Layers, pool: CountingPool
) -> None:
    tasks = [layer_task(stores.root, ALPHA), layer_task(stores.root, BETA)]
    building = asyncio.create_task(make(layers, tasks))
    # at the latest moment: the layer is assembled, and not yet stored
    pool.then = lambda task: building.cancel() if task is tasks[0] else None
    with pytest.raises(asyncio.CancelledError):
        await building
    while tasks[0].key not in await stored_layers(stores):
        await asyncio.sleep(0.01)
    await layers.close()
    assert await stores.pending() == []
    # nothing is stored that is not whole
    for blob in await stores.stored():
        assert Digest.of(await stores.content(blob.digest)) == blob.digest


@pytest.fixture
def recorded(stores: Stores) -> list[list[str]]:
    """The keys of layers in the order in which they are recorded, by transaction."""
    batches: list[list[str]] = []
    record = stores.layers.record

    async def noted(layers: Sequence[Layer]) -> None:
        batches.append([layer.key for layer in layers])
        await record(layers)

    stores.layers.record = noted  # type: ignore[method-assign]  # listened to
    return batches


async def test_layers_are_recorded_together(
    stores: Stores, pool: CountingPool, recorded: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "SMALL", 1)
    monkeypatch.setattr(module, "RECORD_SECONDS", 60)
    tasks = [layer_task(stores.root, package) for package in (ALPHA, BETA, GAMMA)]
    layers = Layers(stores.layers, pool)
    await make(layers, tasks)
    await layers.close()
    assert [sorted(batch) for batch in recorded] == [sorted(task.key for task in tasks)]


async def test_a_layer_does_not_wait_long_for_others(
    stores: Stores, pool: CountingPool, recorded: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "SMALL", 1)
    monkeypatch.setattr(module, "RECORD_SECONDS", 0.01)
    tasks = [layer_task(stores.root, ALPHA), layer_task(stores.root, BETA)]
    run = pool.run

    async def second_waits(doing: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        result = await run(doing, function, *args, **kwargs)
        while function is assemble_all and args[0][0] is tasks[1] and not recorded:
            await asyncio.sleep(0.01)
        return result

    pool.run = second_waits  # type: ignore[method-assign]  # the second layer takes until the first is recorded
    layers = Layers(stores.layers, pool)
    await make(layers, tasks)
    await layers.close()
    assert recorded == [[tasks[0].key], [tasks[1].key]]


async def test_what_is_assembled_is_stored_though_nobody_waits(stores: Stores, layers: Layers) -> None:
    task = layer_task(stores.root, ALPHA)
    await layers.assemble([task], silent)
    await layers.close()
    assert await stored_layers(stores) == {task.key}


async def test_another_attempt_meets_nothing_that_is_about_to_fail(
    stores: Stores, layers: Layers, pool: CountingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "SMALL", 1)
    monkeypatch.setattr(module, "RECORD_SECONDS", 0.01)
    tasks = [layer_task(stores.root, ALPHA), layer_task(stores.root, BETA)]
    write = stores.layers.write

    async def write_slowly(layer: Layer) -> None:
        if layer.key == tasks[1].key:
            await asyncio.sleep(0.2)
        await write(layer)

    stores.layers.write = write_slowly  # type: ignore[method-assign]  # the second fails later than the first
    pool.then = lose
    with pytest.raises(FragmentsGone):
        await make(layers, tasks)
    pool.then = lambda task: None
    await make(layers, tasks)
    assert await stored_layers(stores) == {task.key for task in tasks}
