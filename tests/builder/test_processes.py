"""A process answers for what another made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.base.chosen import ChosenBases
from builder.base.scratch import ScratchBase
from builder.base.vocabulary import BaseImage
from builder.errors import BaseUnavailable, BuildCanceled, BuildFailed
from builder.service import BuilderService
from storage.database import tables
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel, open_service
from tests.support.servers.slow import SlowServer

NAME = "conda-store-dynamic/tool"
TOOL = Package(name="tool", files={"share/tool": File(b"tool")})


class Unreachable(ScratchBase):
    """A base that this process cannot resolve: its registry does not answer it."""

    async def resolve(self, platform: str) -> BaseImage:
        raise BaseUnavailable("registry.example/base", "it cannot be reached")


def forget_base(service: BuilderService) -> None:
    """As a process that has made nothing since it was started, and would not get far if it tried."""
    object.__setattr__(service.builder, "bases", ChosenBases(Unreachable(), {}))


@pytest.mark.parametrize("artifact", [None, "archive.tar.gz"])
async def test_what_another_process_made(tmp_path: Path, artifact: str | None) -> None:
    """It waited for the other's build, and never learned on which base that stands."""
    await make_channel(tmp_path / "site/channel", [TOOL])
    async with SlowServer(tmp_path / "site") as server:
        channel, held = f"{server.url}/channel", server.hold(".conda")
        async with open_service(tmp_path / "data", channel) as maker, open_service(tmp_path / "data", channel) as other:
            forget_base(other)

            async def ask(service: BuilderService) -> object:
                if artifact:
                    return await (await service.demand.artifact(NAME, "latest", artifact)).wait(30)
                return await (await service.demand.image(NAME, "latest")).wait(30)

            asked = asyncio.create_task(ask(maker))
            assert await asyncio.to_thread(held.reached.wait, 30)
            waiting = asyncio.create_task(ask(other))
            await asyncio.sleep(0.5)
            held.released.set()
            assert await waiting == await asked
            assert await asked is not None


async def test_what_is_deleted_before_it_is_answered_is_told(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [TOOL])
    async with open_service(tmp_path / "data", channel) as service:
        ticket = await service.demand.image(NAME, "latest")
        assert ticket._build is not None
        assert await ticket._build.wait(30)
        async with service.builder.blobs.database.writing() as connection:
            await connection.execute(tables.image.delete())
        with pytest.raises(BuildFailed, match="ask again"):
            await ticket.wait(30)


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("shared", [True, False])
async def test_a_canceled_build_stops_its_work(tmp_path: Path, shared: bool) -> None:
    """What it alone needs is given up; what another build needs as well goes on."""
    other = Package(name="other", depends=["tool"], files={"share/other": File(b"other")})
    await make_channel(tmp_path / "site/channel", [TOOL, other])
    async with SlowServer(tmp_path / "site") as server:
        held = server.hold("tool-1.0-0.conda")
        async with open_service(tmp_path / "data", f"{server.url}/channel") as service:
            images, downloads = service.builder._images._flights, service.builder.downloader._flights._flights
            names = [NAME, "conda-store-dynamic/other"] if shared else [NAME]
            tickets = [await service.demand.image(name, "latest") for name in names]
            await until(lambda: sum(len(flight.claim._joined) for flight in downloads.values()) == len(names))
            await until(lambda: len(downloads) == 1)
            assert await service.queue.cancel(tickets[0].build_id, "ada canceled it")
            with pytest.raises(BuildCanceled, match="ada canceled it"):
                await tickets[0].wait(30)
            await until(lambda: len(images) == len(downloads) == len(names) - 1)
            held.released.set()
            if shared:
                assert await tickets[1].wait(30)
            with pytest.raises(BuildCanceled, match="ada canceled it"):
                await service.demand.image(NAME, "latest")
