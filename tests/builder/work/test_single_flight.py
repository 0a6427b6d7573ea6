"""Work that several builds share, and what becomes of it once none of them needs it."""

from __future__ import annotations

import asyncio

import pytest

from builder.work.claims import Claim, on_behalf_of
from builder.work.single_flight import SingleFlight
from tests.support.builder.settling import settle


@pytest.mark.parametrize("given_up", [True, False])
async def test_what_a_stopped_build_alone_needs_is_stopped(given_up: bool) -> None:
    flights: SingleFlight[str, None] = SingleFlight()
    stopped, begun = list[str](), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append("stopped")
            raise

    async def need(claim: Claim) -> None:
        with on_behalf_of(claim):
            await flights.do("key", work)

    claims = [Claim(), Claim()]
    tasks = [asyncio.create_task(need(claim)) for claim in claims]
    await begun.wait()
    for claim, task in zip(claims, tasks, strict=True):
        assert stopped == []
        if given_up:
            claim.give_up()
        task.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stopped == (["stopped"] if given_up else [])
    await flights.close()


async def test_what_is_being_stopped_is_begun_anew_for_whoever_asks() -> None:
    """It takes a while to clear up, which is nothing to those who come meanwhile."""
    flights: SingleFlight[str, int] = SingleFlight()
    begun, cleared = list[int](), list[int]()
    clear, finish = asyncio.Event(), asyncio.Event()

    async def work() -> int:
        number = len(begun)
        begun.append(number)
        try:
            await finish.wait()
        except asyncio.CancelledError:
            await clear.wait()
            cleared.append(number)
            raise
        return number

    def need(claim: Claim) -> asyncio.Task[int]:
        with on_behalf_of(claim):
            return asyncio.create_task(flights.do("key", work))

    given_up = Claim()
    first = need(given_up)
    await settle()
    given_up.give_up()
    first.cancel()
    await asyncio.wait({first})
    second = need(Claim())
    await settle()
    assert (begun, cleared) == ([0, 1], [])
    clear.set()
    await settle()
    third = need(Claim())
    await settle()
    assert (begun, cleared) == ([0, 1], [0]), "what began anew is shared like any other"
    finish.set()
    assert (await second, await third) == (1, 1)


async def test_closing_waits_for_what_is_being_stopped() -> None:
    flights: SingleFlight[str, None] = SingleFlight()
    clear, given_up, cleared = asyncio.Event(), Claim(), list[str]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await clear.wait()
            cleared.append("cleared")

    with on_behalf_of(given_up):
        asked = asyncio.create_task(flights.do("key", work))
    await settle()
    given_up.give_up()
    asked.cancel()
    await asyncio.wait({asked})
    asyncio.get_running_loop().call_later(0.05, clear.set)
    await flights.close()
    assert cleared == ["cleared"]
