"""Builds that resolve their base at the same time."""

from __future__ import annotations

import asyncio

import pytest

from builder.base.shared import SharedBase
from builder.base.vocabulary import BaseImage
from builder.errors import BaseUnavailable

PLATFORM = "linux-64"


class HeldBase:
    """A base whose looks wait until they are released; `fails` is for all that begin from then on."""

    reference = "held"

    def __init__(self) -> None:
        self.looks = 0
        self.fails = False
        self.release = asyncio.Event()

    async def resolve(self, platform: str) -> BaseImage:
        self.looks += 1
        number, fails = self.looks, self.fails
        await self.release.wait()
        if fails:
            raise BaseUnavailable(self.reference, "it is gone")
        return BaseImage(reference=f"look {number}", digest=None, platform=platform, layers=())


async def start(base: SharedBase, count: int) -> list[asyncio.Task[BaseImage]]:
    tasks = [asyncio.create_task(base.resolve(PLATFORM)) for _ in range(count)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_who_asks_during_a_look_shares_the_next_one() -> None:
    held = HeldBase()
    base = SharedBase(held)
    first = await start(base, 1)
    others = await start(base, 100)
    assert held.looks == 1
    held.release.set()
    assert [image.reference for image in await asyncio.gather(*first)] == ["look 1"]
    assert {image.reference for image in await asyncio.gather(*others)} == {"look 2"}
    assert (await base.resolve(PLATFORM)).reference == "look 3"


async def test_an_answer_is_never_older_than_its_question() -> None:
    held = HeldBase()
    base = SharedBase(held)
    early = await start(base, 1)
    held.fails = True
    late = await start(base, 2)
    held.release.set()
    assert (await early[0]).reference == "look 1"
    for task in late:
        with pytest.raises(BaseUnavailable):
            await task


async def test_who_leaves_takes_nobody_along() -> None:
    held = HeldBase()
    base = SharedBase(held)
    first, second = [*await start(base, 1), *await start(base, 1)]
    third = (await start(base, 1))[0]
    first.cancel()
    second.cancel()
    held.release.set()
    assert (await third).reference == "look 2"
    await base.close()
