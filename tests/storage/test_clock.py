"""What a clock that was ahead by a year wrote down does not last for a year."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import update

from builder.errors import BuildFailed
from builder.names.image_name import parse_specs
from builder.queue.job import Job
from storage.catalog.parts import Catalog
from storage.clock import is_within
from storage.database import tables
from storage.database.leases import Leases
from storage.disk.files import mark_used
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service
from tests.support.storage.stores import open_stores

YEAR = 365 * 86400.0


def test_a_time_in_the_future_is_long_ago() -> None:
    now = 1000.0
    assert [is_within(10, then, now) for then in (989, 991, 1000, 1004, 1006, 1000 + YEAR)] == [
        False, True, True, True, False, False,
    ]  # fmt: skip


async def test_a_lease_of_a_clock_that_was_ahead(tmp_path: Path) -> None:
    async with open_stores(tmp_path) as stores:
        leases = Leases(stores.blobs.database)
        assert await leases.take("gc", "one", 30)
        assert not await leases.take("gc", "two", 30)
        async with stores.blobs.database.writing() as connection:
            await connection.execute(update(tables.lease).values(until=time.time() + YEAR))
        assert await leases.take("gc", "two", 30)
        assert not await leases.take("gc", "one", 30)


async def test_an_old_lock_and_a_failure(tmp_path: Path) -> None:
    """`latest` is solved again, a failure is tried again, and what is found then is kept."""
    folder = tmp_path / "channel"
    channel = await make_channel(folder, [Package("small", files={"share/small": b"1"})])
    async with open_service(tmp_path / "data", channel) as service:
        demand, database = service.demand, service.builder.blobs.database
        first = await (await demand.image("conda-store-dynamic/small", "latest")).wait(None)
        with pytest.raises(BuildFailed):
            await (await demand.image("conda-store-dynamic/other", "latest")).wait(None)
        async with database.writing() as connection:
            await connection.execute(update(tables.resolution).values(solved=time.time() + YEAR))
            await connection.execute(update(tables.build).values(ended=time.time() + YEAR, created=time.time() + YEAR))
        await make_channel(folder, [Package("small", version="2.0", files={"share/small": b"2"}), Package("other")])
        ticket = await demand.image("conda-store-dynamic/small", "latest")
        assert ticket.build_id
        second = await ticket.wait(None)
        assert first
        assert second
        assert first.lock_key != second.lock_key
        again = await demand.image("conda-store-dynamic/small", "latest")
        assert not again.build_id
        assert await (await demand.image("conda-store-dynamic/other", "latest")).wait(None)


async def test_a_build_that_runs_is_the_last_of_its_key(tmp_path: Path) -> None:
    async with open_stores(tmp_path) as stores:
        catalog: Catalog = stores.catalog
        await catalog.builds.begin("old", "key", {}, "host/1/1")
        await catalog.builds.complete("old", "")
        async with stores.blobs.database.writing() as connection:
            await connection.execute(update(tables.build).values(created=time.time() + YEAR, ended=time.time() + YEAR))
        await catalog.builds.begin("new", "key", {}, "host/1/1")
        last = await catalog.builds.last("key")
        assert last
        assert last.id == "new"


def test_the_use_of_a_file_is_noted_though_it_was_used_next_year(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.utime(path, (time.time() + YEAR, 0))
    mark_used(path)
    assert path.stat().st_atime < time.time() + 60


async def test_the_glibc_of_an_image_is_part_of_what_a_lock_is_kept_for(tmp_path: Path) -> None:
    packages = [Package("x", version="1"), Package("x", version="2", depends=["__glibc >=2.40"])]
    channel = await make_channel(tmp_path / "channel", packages)
    versions = []
    for glibc in ("2.99", "2.17", "2.99"):
        async with open_service(tmp_path / "data", channel, glibc=glibc) as service:
            lock = await service.lock(parse_specs(["x"], service.builder.settings))
            versions.append(lock.packages["linux-64"][0].version)
            assert await service.builder.catalog.locks.find(lock.key)
            job = Job("image", lock.spec)
            assert (await service.demand._find_lock(job, lambda _solved: True)) is not None
    assert versions == ["2", "1", "2"]
