"""Builds of environments while the database is away, and canceled or followed by another process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from builder.environments.life import NamedEnvironments
from builder.service import BuilderService
from builder.work.claims import OURSELVES
from storage.environments.vocabulary import BuildStatus, EnvironmentBuild
from storage.errors import StorageError
from storage.events.announcements import listening
from tests.support.builder.named import write_down
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel, open_service
from tests.support.servers.postgres import Postgres
from tests.support.servers.slow import SlowServer

TOOL = Package(name="tool", files={"share/tool": File(b"tool")})


def named_of(service: BuilderService) -> NamedEnvironments:
    assert service.environments is not None
    return service.environments


async def end_of(named: NamedEnvironments, build: EnvironmentBuild) -> EnvironmentBuild:
    """Its end, however long the database is away."""
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(StorageError):
                if (found := await named.store.builds.find(build.id)).is_finished:
                    return found
            await asyncio.sleep(0.05)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SlowServer]:
    await make_channel(tmp_path / "site/channel", [TOOL])
    async with SlowServer(tmp_path / "site") as running:
        yield running


@pytest.mark.services
async def test_postgresql_restarts_while_an_environment_is_built(
    tmp_path: Path, server: SlowServer, postgres: Postgres, migrated_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.environments.life.LEFT_SECONDS", 0.1)
    monkeypatch.setattr("builder.environments.life.LOOK_SECONDS", 0.2)
    held = server.hold("tool-1.0-0.conda")
    async with open_service(tmp_path / "data", f"{server.url}/channel", url=migrated_postgres) as service:
        named = named_of(service)
        async with named.keeping():
            build = await named.create("team", "science", write_down(service, "tool"), by="ann")
            assert await asyncio.to_thread(held.reached.wait, 30)
            await asyncio.to_thread(postgres.kill)
            held.released.set()
            # long enough for what is built to be recorded, which fails
            await asyncio.sleep(2)
            await asyncio.to_thread(postgres.start)
            done = await end_of(named, build)
        assert (done.status, done.is_current) == (BuildStatus.COMPLETED, True), done.status_info
        ticket = await named.find_ticket("team/science", "latest", OURSELVES)
        assert ticket is not None
        assert await ticket.wait(0) is not None


async def test_another_process_cancels_a_build(tmp_path: Path, server: SlowServer, database_url: str) -> None:
    held = server.hold("tool-1.0-0.conda")
    channel = f"{server.url}/channel"
    async with (
        open_service(tmp_path / "data", channel, url=database_url) as service,
        open_service(tmp_path / "data", channel, url=database_url) as other,
    ):
        build = await named_of(service).create("team", "science", write_down(service, "tool"), by="ann")
        assert await asyncio.to_thread(held.reached.wait, 30)
        assert await named_of(other).cancel(build, "ann canceled it")
        done = await named_of(other).store.builds.find(build.id)
        assert (done.status, done.status_info) == (BuildStatus.CANCELED, "ann canceled it")
        held.released.set()
        again = await named_of(other).create("team", "science", write_down(other, "tool"), by="ann")
        assert (await end_of(named_of(other), again)).status == BuildStatus.COMPLETED
        # the process whose build was canceled has published nothing
        assert (await named_of(service).store.builds.find(build.id)).status == BuildStatus.CANCELED
        assert not await named_of(service).cancel(build, "ann canceled it")


@pytest.mark.services
async def test_what_one_server_does_another_one_does_not_remember_otherwise(
    tmp_path: Path, server: SlowServer, migrated_postgres: str
) -> None:
    """Each way in which the meaning of a tag changes is told to all servers of a database, files shared or not."""
    channel = f"{server.url}/channel"
    async with (
        open_service(tmp_path / "one", channel, url=migrated_postgres) as service,
        open_service(tmp_path / "two", channel, url=migrated_postgres) as other,
    ):
        here, there = named_of(service), named_of(other)
        changes = there.store.building.changes
        names = there.store.environments.names
        async with listening(migrated_postgres, changes), asyncio.timeout(120):

            async def heard(before: object) -> None:
                while changes.stamp("team/science") == before:
                    await asyncio.sleep(0.01)

            before = changes.stamp("team/science")
            first = await end_of(here, await here.create("team", "science", write_down(service, "tool"), by="ann"))
            await heard(before)
            await names.load()
            assert "team/science" in names
            for change in (
                lambda: here.rebuild(first.id, by="ann"),
                lambda: here.store.environments.change("team", "science", build_id=first.id),
                lambda: here.store.environments.delete_build(first.id + 1),
                lambda: here.delete("team", "science", by="ann"),
            ):
                before = changes.stamp("team/science")
                done = await change()
                if isinstance(done, EnvironmentBuild) and not done.is_finished:
                    await end_of(here, done)
                await heard(before)
            await names.load()
            assert "team/science" not in names
