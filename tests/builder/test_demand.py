"""What is asked for is noted as used, now and then, and beside the request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import Table, func, select

from builder.channels.policy import ChannelPolicy
from builder.demand import Demand
from builder.errors import TooManyBuilds
from builder.queue.job import Job
from builder.queue.protocol import CompletedBuild
from builder.service import BuilderService
from builder.work.claims import Caller, Permit
from storage.catalog.images import Images
from storage.catalog.made import Made
from storage.database import tables
from storage.database.engine import Database
from storage.errors import ConderyError, StorageUnavailable
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service, spec_of

NAME = "conda-store-dynamic/small"
LONG_AGO = 1.0
ANN = Caller("ann", signed_in=True)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[BuilderService]:
    """One that has an image and a file, which nobody has asked for since long ago."""
    channel = await make_channel(tmp_path / "channel", [Package("small", files={"share/small": b"small"})])
    async with open_service(tmp_path / "data", channel) as service:
        await (await service.demand.image(NAME, "latest")).wait(None)
        await (await service.demand.artifact(NAME, "latest", "explicit.txt")).wait(None)
        await forget(service)
        yield service


async def forget(service: BuilderService) -> None:
    async with service.builder.blobs.database.writing() as connection:
        for table in (tables.image, tables.artifact):
            await connection.execute(table.update().values(used=LONG_AGO))


async def used(service: BuilderService, table: Table) -> float:
    async with service.builder.blobs.database.reading() as connection:
        return float((await connection.execute(select(table.c.used))).scalar_one())


async def test_the_use_of_images_is_noted(service: BuilderService) -> None:
    await service.demand.image(NAME, "latest")
    await service.demand.close()
    assert await used(service, tables.image) > LONG_AGO
    assert await used(service, tables.artifact) == LONG_AGO


async def test_the_use_of_files_is_noted(service: BuilderService) -> None:
    await service.demand.artifact(NAME, "latest", "explicit.txt")
    await service.demand.close()
    assert await used(service, tables.artifact) > LONG_AGO
    assert await used(service, tables.image) == LONG_AGO


async def test_a_build_that_no_name_says_is_told_by_its_handle(service: BuilderService) -> None:
    job = Job("image", spec_of(service, "small=1.0=0"))
    image = await service.build(job.spec)
    key = service.builder.image_key(image.lock_key, job.spec.platforms)
    ended = await service.demand.describe_end(job, "id", 1.0, CompletedBuild("id", key))
    assert ended.repository == f"conda-store-dynamic/spec.{job.spec.key[:16]}"
    assert ended.tag is not None
    assert await (await service.demand.image(ended.repository, ended.tag)).wait(None) == image


async def test_what_was_just_noted_is_not_noted_again(service: BuilderService) -> None:
    await service.demand.image(NAME, "latest")
    await service.demand.close()
    await forget(service)
    await service.demand.image(NAME, "latest")
    await service.demand.close()
    assert await used(service, tables.image) == LONG_AGO


class Stuck(Images):
    """Whose database lets everybody read and nobody write."""

    def __init__(self, database: Database, failure: StorageUnavailable | None) -> None:
        super().__init__(database, Made(database))
        self.failure = failure
        self.tries = 0

    async def note_use(self, key: str) -> None:
        self.tries += 1
        if self.failure:
            raise self.failure
        await asyncio.Event().wait()


class Refused(ConderyError):
    pass


def refuse() -> NoReturn:
    raise Refused("environment::create is not granted to you")


async def test_what_is_there_needs_no_permit_and_what_is_to_be_built_does(service: BuilderService) -> None:
    demand = service.demand
    assert await (await demand.image(NAME, "latest", permit=refuse)).wait(0)
    assert await (await demand.artifact(NAME, "latest", "explicit.txt", permit=refuse)).wait(0)
    begun = await builds(service)
    with pytest.raises(Refused):
        await demand.image("conda-store-dynamic/other", "latest", permit=refuse)
    with pytest.raises(Refused):
        await demand.artifact(NAME, "latest", "conda-lock.yml", permit=refuse)
    assert await builds(service) == begun
    assert await (await demand.artifact(NAME, "latest", "conda-lock.yml")).wait(30)
    assert await builds(service) == begun + 1


async def test_a_build_is_told_once_it_has_begun_and_to_nobody_who_joins_it(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [Package("small", files={"share/small": b"small"})])
    told: list[str] = []

    def permit(name: str) -> Permit:
        return lambda: lambda: told.append(name)

    async with open_service(tmp_path / "data", channel, fresh_for=0.0, stale_for=3600, builds_per_minute=2) as service:
        demand = service.demand
        tickets = await asyncio.gather(*(demand.image(NAME, "latest", ANN, permit(f"{n}")) for n in range(20)))
        for ticket in tickets:
            await ticket.wait(30)
        assert len(told) == 1
        for _ in range(20):
            # each of these wants the image renewed
            assert (await demand.image(NAME, "latest", ANN, permit("renewal"))).stale is not None
        assert told[1:] == ["renewal"]
        with pytest.raises(TooManyBuilds):
            await demand.image("conda-store-dynamic/other", "latest", ANN, permit("other"))
        assert told[1:] == ["renewal"]


async def test_what_is_old_answers_and_is_not_renewed_without_a_permit(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [Package("small", files={"share/small": b"small"})])
    async with open_service(tmp_path / "data", channel, fresh_for=0.0, stale_for=3600) as service:
        image = await (await service.demand.image(NAME, "latest")).wait(30)
        begun = await builds(service)
        ticket = await service.demand.image(NAME, "latest", permit=refuse)
        found = await ticket.wait(0)
        assert image is not None
        assert found is not None
        assert found.lock_key == image.lock_key
        assert ticket.stale == "environment::create is not granted to you"
        assert await builds(service) == begun


async def builds(service: BuilderService) -> int:
    async with service.builder.blobs.database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(tables.build))).scalar_one())


async def test_a_request_neither_waits_for_the_note_nor_fails_with_it(service: BuilderService) -> None:
    builder = service.builder
    for failure in (None, StorageUnavailable("the database", "it is locked")):
        stuck = Stuck(builder.blobs.database, failure)
        catalog = replace(builder.catalog, images=stuck)
        policy = ChannelPolicy(others="all")
        demand = Demand(
            builder.settings, catalog, service.queue, builder.image_key, builder.resolution_key, policy,
            builder.admission, builder.logins,
        )  # fmt: skip
        for _ in range(2):
            ticket = await demand.image(NAME, "latest")
            assert await ticket.wait(0)
            await asyncio.sleep(0)
        # what failed is tried again with the next request, what is under way is not
        assert stuck.tries == (2 if failure else 1)
