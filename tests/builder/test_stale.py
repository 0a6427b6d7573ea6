"""A `latest` that has expired answers with its old lock while it is solved anew, for a bounded time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from builder.errors import BuildFailed
from builder.image.finished import FinishedImage
from builder.service import BuilderService
from builder.ticket import Ticket
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel, open_service
from tests.support.servers.slow import SlowServer

NAME = "conda-store-dynamic/tool"
OLD = Package(name="tool", files={"share/tool": File(b"old")})
NEW = Package(name="tool", version="2.0", files={"share/tool": File(b"new")})


async def latest(service: BuilderService) -> tuple[Ticket[FinishedImage], FinishedImage]:
    ticket = await service.demand.image(NAME, "latest")
    image = await ticket.wait(30)
    assert image is not None
    return ticket, image


async def renewed(service: BuilderService, old: FinishedImage) -> FinishedImage:
    """What is answered once it is another image than `old`."""
    async with asyncio.timeout(30):
        while (image := (await latest(service))[1]).lock_key == old.lock_key:
            await asyncio.sleep(0.05)
    return image


async def test_the_old_image_answers_until_the_new_one_is_there(tmp_path: Path) -> None:
    await make_channel(tmp_path / "site/channel", [OLD])
    async with SlowServer(tmp_path / "site") as server:
        channel = f"{server.url}/channel"
        async with open_service(tmp_path / "data", channel, fresh_for=0.5, stale_for=3600) as service:
            ticket, first = await latest(service)
            assert ticket.stale is None
            await make_channel(tmp_path / "site/channel", [NEW])
            await service.builder.solver.shared.refresh()
            held = server.hold(".conda")
            await asyncio.sleep(0.6)
            ticket, image = await latest(service)
            assert (ticket.stale, image.lock_key) == ("", first.lock_key)
            await asyncio.to_thread(held.reached.wait, 30)
            # solved by now, and its packages are not there yet
            ticket, image = await latest(service)
            assert (ticket.stale, image.lock_key) == ("", first.lock_key)
            held.released.set()
            await renewed(service, first)


async def test_a_failed_solve_is_told_and_the_old_lock_serves_until_its_time_is_over(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [OLD])
    async with open_service(tmp_path / "data", channel, fresh_for=0.2, stale_for=4, failure_memory=0.2) as service:
        await latest(service)
        (tmp_path / "channel/linux-64/tool-1.0-0.conda").unlink()
        for index in (tmp_path / "channel").rglob("repodata*"):
            index.unlink()
        await make_channel(tmp_path / "channel", [Package(name="other")])
        await asyncio.sleep(0.3)
        stale: set[str] = set()
        with pytest.raises(BuildFailed, match="no package tool"):
            await ask_until_it_fails(service, stale)
        assert any("no package tool" in reason for reason in stale), "why there is no new one is told"


async def ask_until_it_fails(service: BuilderService, stale: set[str]) -> None:
    async with asyncio.timeout(30):
        while True:
            ticket, image = await latest(service)
            assert ticket.stale is not None
            stale.add(ticket.stale)
            assert image.variants
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("tag", ["latest", "lock"])
async def test_what_does_not_expire_is_never_stale(tmp_path: Path, tag: str) -> None:
    channel = await make_channel(tmp_path / "channel", [OLD])
    async with open_service(tmp_path / "data", channel, fresh_for=0.1, stale_for=0) as service:
        _, first = await latest(service)
        await asyncio.sleep(0.2)
        ticket = await service.demand.image(NAME, tag if tag == "latest" else f"lock-{first.lock_key[:12]}")
        assert ticket.stale is None
        assert await ticket.wait(30)
