"""A process answers for what another made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from builder.base.scratch import ScratchBase
from builder.base.vocabulary import BaseImage
from builder.errors import BaseUnavailable, BuildFailed
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
    service.builder._bases.clear()
    object.__setattr__(service.builder, "base", Unreachable())


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
