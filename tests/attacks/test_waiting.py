"""Somebody asks for much that never ends: a stranger's build ends all the same, while all of that is under way."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from builder import stages
from builder.errors import BuildFailed, TooManyBuilds
from builder.image.finished import FinishedImage
from builder.service import BuilderService
from builder.ticket import Ticket
from builder.work.claims import Caller
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel, open_service
from tests.support.servers import slow
from tests.support.servers.slow import SlowServer, make_hard_channel

ROOT = "conda-store-dynamic"
STRANGER = Caller("198.51.100.1")
ONE_ATTACKER = [Caller("203.0.113.1")] * 500
MANY_ATTACKERS = [Caller(f"203.0.113.{number}") for number in range(100)]
callers = pytest.mark.parametrize("callers", [ONE_ATTACKER, MANY_ATTACKERS], ids=["one caller", "many callers"])
WITHIN = 60
"""Seconds for the stranger's build: for a busy machine, and far less than what is under way takes."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "channels"


@contextlib.asynccontextmanager
async def attacked(site: Path, *slow_parts: str, **settings: Any) -> AsyncIterator[tuple[BuilderService, SlowServer]]:
    """A builder with the channel `good` of packages `stranger-0` and so on, and a server of hostile channels."""
    good = await make_channel(
        site / "good",
        [Package(name=f"stranger-{number}", files={"share/a": File(b"a" * number)}) for number in range(3)],
    )
    async with (
        SlowServer(site, slow=slow_parts) as server,
        open_service(
            site.parent / "data", good, channel_alias=server.url, allowed_channels=[f"{server.url}/*"], **settings
        ) as service,
    ):
        yield service, server


async def ask(service: BuilderService, name: str, caller: Caller) -> Ticket[FinishedImage]:
    return await service.demand.image(f"{ROOT}/{name}", "latest", caller)


async def waiting(tickets: list[Ticket[FinishedImage]]) -> list[asyncio.Task[Any]]:
    """The clients of these builds, each of which waits."""
    tasks = [asyncio.create_task(ticket.wait(None)) for ticket in tickets]
    await asyncio.sleep(0)
    return tasks


async def stranger_is_served(service: BuilderService, number: int = 0) -> None:
    image = await (await ask(service, f"stranger-{number}", STRANGER)).wait(WITHIN)
    assert image is not None, "the stranger waits for somebody else's bad builds"


async def until(condition: Any) -> None:
    async with asyncio.timeout(WITHIN):
        while not condition():
            await asyncio.sleep(0.02)


async def stop(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@callers
async def test_channels_whose_index_hangs(site: Path, callers: list[Caller]) -> None:
    async with attacked(site, "/hung") as (service, server):
        clients = await waiting([await ask(service, f"channel.hung{n}/any", callers[n]) for n in range(60)])
        await until(lambda: server.stuck >= 60)
        await stranger_is_served(service)
        assert not any(client.done() for client in clients)
        await stop(clients)


async def test_the_reason_when_an_index_hangs_names_the_channel_and_the_time(site: Path) -> None:
    async with attacked(site, "/hung", channel_seconds=1) as (service, _):
        with pytest.raises(BuildFailed, match=r"channel .*hung.* no complete answer within 0\.8 s"):
            await (await ask(service, "channel.hung/any", STRANGER)).wait(WITHIN)


async def test_a_few_builds_have_begun_at_a_time_and_whoever_signs_in_begins_beside_them(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "BEGUN_PATIENCE", 1000.0)
    async with attacked(site, "/hung", concurrent_builds=1) as (service, server):
        clients = await waiting([await ask(service, f"channel.hung{n}/any", MANY_ATTACKERS[n]) for n in range(20)])
        begun = service.builder.stages.begun
        await until(lambda: (begun.taken, begun.waiting) == (stages.BEGUN, 20 - stages.BEGUN))
        await until(lambda: server.stuck >= stages.BEGUN)
        states = [row.status for row in await service.builder.catalog.builds.list_unfinished()]
        assert sorted(states) == ["BUILDING"] * stages.BEGUN + ["QUEUED"] * (20 - stages.BEGUN)
        for number in range(2):
            ticket = await ask(service, f"stranger-{number}", Caller("ann", signed_in=True))
            assert await ticket.wait(WITHIN) is not None
        assert (begun.taken, begun.waiting) == (stages.BEGUN, 20 - stages.BEGUN)
        await stop(clients)


async def test_others_begin_beside_those_that_wait_long(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "BEGUN_PATIENCE", 0.1)
    async with attacked(site, "/hung", concurrent_builds=1) as (service, server):
        clients = await waiting([await ask(service, f"channel.hung{n}/any", MANY_ATTACKERS[n]) for n in range(20)])
        await until(lambda: server.stuck >= 20)
        await stranger_is_served(service)
        assert not any(client.done() for client in clients)
        await stop(clients)


@callers
async def test_channels_whose_packages_hang(site: Path, callers: list[Caller]) -> None:
    """Twenty packages each, so that there are far more of them than connections, for any share of them."""
    for number in range(8):
        packages = [Package(name=f"stuck{number}-{each}") for each in range(20)]
        await make_channel(site / f"bad{number}", packages)
    await make_channel(site / "remote", [Package(name="remote", files={"share/r": File(b"r")})])
    async with attacked(site, "stuck") as (service, server):
        names = [
            "/".join([f"channel.bad{number}", *(f"stuck{number}-{each}" for each in range(20))]) for number in range(8)
        ]
        clients = await waiting([await ask(service, name, callers[n]) for n, name in enumerate(names)])
        await until(lambda: server.stuck >= service.builder.settings.downloads)
        # a package that has to be downloaded, too
        image = await (await ask(service, "channel.remote/remote", STRANGER)).wait(WITHIN)
        assert image is not None
        await stranger_is_served(service)
        assert not any(client.done() for client in clients)
        await stop(clients)


async def test_the_reason_when_a_package_comes_too_slowly_names_the_settings(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow, "PAUSE", 0.05)
    await make_channel(site / "bad", [Package(name="stuck")])
    async with attacked(site, "stuck", download_seconds=0.3) as (service, _):
        ticket = await ask(service, "channel.bad/stuck", STRANGER)
        with pytest.raises(BuildFailed, match=r"fewer than 100000 bytes arrived in 0.3 s \(settings download_least"):
            await ticket.wait(WITHIN)


async def test_downloads_of_one_build_have_an_end(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though each brings as much as it has to."""
    monkeypatch.setattr(slow, "PAUSE", 0.01)
    await make_channel(site / "bad", [Package(name="stuck")])
    async with attacked(site, "stuck", download_least=1, build_download_seconds=1) as (service, _):
        ticket = await ask(service, "channel.bad/stuck", STRANGER)
        with pytest.raises(BuildFailed, match=r"more than the allowed 1 s \(setting build_download_seconds"):
            await ticket.wait(WITHIN)


@callers
async def test_solves_that_do_not_end(site: Path, callers: list[Caller]) -> None:
    make_hard_channel(site / "hard", [f"hard{number}" for number in range(9)])
    async with attacked(site, quick_solve_seconds=1) as (service, _):
        clients = await waiting([await ask(service, f"channel.hard/hard{n}", callers[n]) for n in range(9)])
        await asyncio.sleep(1)
        await stranger_is_served(service)
        await asyncio.sleep(5)
        await stranger_is_served(service, 1)
        assert not any(client.done() for client in clients)
        await stop(clients)


async def test_a_long_solve_has_all_its_time_and_then_a_reason(site: Path) -> None:
    make_hard_channel(site / "hard", ["hard"])
    async with attacked(site, quick_solve_seconds=0.5, solve_seconds=2) as (service, _):
        process = service.builder.solver.shared.pid
        with pytest.raises(BuildFailed, match=r"time of 2 s that the setting solve_seconds allows"):
            await (await ask(service, "channel.hard/hard", STRANGER)).wait(WITHIN)
        assert service.builder.solver.shared.pid == process, "the quick lane's process has not been touched"


@callers
async def test_archives(site: Path, callers: list[Caller]) -> None:
    big = [Package(name=f"big{n}", files={f"share/{n}": File(os.urandom(10 << 20))}) for n in range(8)]
    await make_channel(site / "archives", big)
    async with attacked(site, concurrent_archives=1) as (service, _):
        tickets = [
            await service.demand.artifact(f"{ROOT}/channel.archives/big{n}", "latest", "archive.tar.gz", callers[n])
            for n in range(8)
        ]
        clients = [asyncio.create_task(ticket.wait(None)) for ticket in tickets]
        pack = service.builder.stages.pack
        await until(lambda: pack.taken and pack.waiting)
        await stranger_is_served(service)
        assert pack.taken == 1
        assert not all(client.done() for client in clients)
        assert all(await asyncio.gather(*clients))


async def test_five_hundred_names_of_one_caller(site: Path) -> None:
    """A hundred are taken, the others refused with what to do; another caller's one ends before nearly all of them."""
    await make_channel(site / "many", [Package(name=f"many{n}", files={"share/m": File(b"m" * n)}) for n in range(500)])
    async with attacked(site) as (service, server):
        held = server.hold(".conda")
        tickets, refused = list[Ticket[FinishedImage]](), list[TooManyBuilds]()
        for number in range(500):
            try:
                tickets.append(await ask(service, f"channel.many/many{number}", ONE_ATTACKER[0]))
            except TooManyBuilds as error:
                refused.append(error)
        assert (len(tickets), len(refused)) == (100, 400)
        assert "203.0.113.1" in str(refused[0])
        assert "builds_per_caller" in str(refused[0])
        clients = await waiting(tickets)
        held.released.set()
        await stranger_is_served(service)
        assert sum(client.done() for client in clients) < 80
        # who is refused may still join what is under way
        assert await (await ask(service, "channel.many/many99", ONE_ATTACKER[0])).wait(WITHIN * 3)
        await stop(clients)


async def test_there_is_a_bound_for_all_callers_together(site: Path) -> None:
    async with attacked(site, "/hung", builds_at_most=5) as (service, _):
        for number in range(5):
            await ask(service, f"channel.hung{number}/any", MANY_ATTACKERS[number])
        with pytest.raises(TooManyBuilds, match="builds_at_most"):
            await ask(service, "stranger-0", STRANGER)
