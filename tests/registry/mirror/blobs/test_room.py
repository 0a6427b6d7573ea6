"""Blobs of other registries count in their quota while they come, in every process of the same data."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from storage.digest import Digest
from storage.quotas.limits import Limits, Quota
from tests.support.registry.mirrored import APP, get, get_refusal
from tests.support.registry.mirrored_blobs import (
    HALF,
    IMAGE,
    LAYER,
    LYING,
    OTHER,
    Gate,
    Sends,
    cut_short,
    mirror_of,
    path_of,
    site_downloads,
)
from tests.support.registry.serving import Site
from tests.support.registry.upstreams import ScriptedRegistry, image, mirroring

TIGHT = Limits(quotas=(Quota("mirror/*", bytes=len(LAYER) + len(LAYER) // 2),))
"""Room for one of the layers, and not for both."""


@pytest.fixture(autouse=True)
def other(upstream: ScriptedRegistry) -> str:
    """The path of another layer of the same size."""
    upstream.put(APP, image(OTHER))
    return path_of(upstream, Digest.of(OTHER)).removeprefix("/v2/")


async def measure(site: Site) -> int:
    while site_downloads(site):
        await asyncio.sleep(0.01)
    return await site.workshop.store.repositories.room.measure("mirror")


async def test_what_comes_has_its_room_in_every_process(
    tmp_path: Path, upstream: ScriptedRegistry, gate: Gate, other: str, database_url: str
) -> None:
    async with (
        mirroring(tmp_path, upstream.host, limits=TIGHT, database=database_url) as one,
        mirroring(tmp_path, upstream.host, limits=TIGHT, database=database_url) as two,
    ):
        # what a manifest names does not give way
        await get(one, f"{upstream.mirrored}/{APP}/manifests/latest")
        pull = asyncio.create_task(get(one, path_of(upstream).removeprefix("/v2/")))
        await gate.half.wait()
        for site in (one, two):
            assert "mirror/* may hold 4,500,000 bytes" in await get_refusal(site, other, 403, "DENIED")
        assert await two.workshop.store.repositories.room.measure("mirror") == len(LAYER) + len(IMAGE.body)
        gate.rest.set()
        assert await pull == LAYER
        assert await measure(one) == len(LAYER) + len(IMAGE.body)
        upstream.behaviour = None
        for site in (one, two):
            await get_refusal(site, other, 403, "DENIED")
            assert await get(site, path_of(upstream).removeprefix("/v2/")) == LAYER


async def test_many_at_once_stay_within_the_quota(
    tmp_path: Path, upstream: ScriptedRegistry, database_url: str
) -> None:
    layers = [LAYER[:-1] + bytes([number]) for number in range(6)]
    for layer in layers:
        upstream.put(APP, image(layer))
    paths = [path_of(upstream, Digest.of(layer)) for layer in layers]
    limits = Limits(quotas=(Quota("mirror/*", bytes=2 * len(LAYER)),))

    async def pull(site: Site, path: str) -> int:
        async with site.request("GET", path) as response:
            await response.read()
            return response.status

    async with (
        mirroring(tmp_path, upstream.host, limits=limits, database=database_url) as one,
        mirroring(tmp_path, upstream.host, limits=limits, database=database_url) as two,
    ):
        pulls = [pull(one if number % 2 else two, path) for number, path in enumerate(paths)]
        # what has come gives way to what comes later, since no manifest names it; who is admitted is not cut off
        assert set(await asyncio.gather(*pulls)) == {200, 403}
        assert await measure(one) == await measure(two) <= 2 * len(LAYER)


async def test_a_failed_download_gives_its_room_back(
    tmp_path: Path, upstream: ScriptedRegistry, other: str, database_url: str
) -> None:
    async with mirroring(tmp_path, upstream.host, limits=TIGHT, database=database_url, **LYING) as site:
        for sent in (OTHER, LAYER[:HALF]):
            upstream.behaviour = Sends(sent, len(LAYER))
            await cut_short(site, path_of(upstream))
            assert await measure(site) == 0
        upstream.behaviour = None
        assert await get(site, other) == OTHER


async def test_a_download_that_is_cancelled_gives_its_room_back(
    tmp_path: Path, upstream: ScriptedRegistry, gate: Gate, other: str, database_url: str
) -> None:
    async with mirroring(tmp_path, upstream.host, limits=TIGHT, database=database_url) as two:
        async with mirroring(tmp_path, upstream.host, limits=TIGHT, database=database_url) as one:
            pull = asyncio.create_task(get(one, path_of(upstream).removeprefix("/v2/")))
            await gate.half.wait()
            await get_refusal(two, other, 403, "DENIED")
            await mirror_of(one)._fetching.close()
            await asyncio.gather(pull, return_exceptions=True)
        assert await measure(two) == 0
        upstream.behaviour = None
        gate.rest.set()
        assert await get(two, other) == OTHER
