"""Tasks that take turns of a lane, for tests of who has one."""

from __future__ import annotations

import asyncio
import math

from builder.work.claims import Caller, Claim, on_behalf_of
from builder.work.turns import GaveWay, Lane
from tests.support.builder.settling import settle


class Track:
    """Tasks that have turns of a lane until they are told to end."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.running: list[str] = []
        self.gave_way: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, name: str, claim: Claim, *, interruptible_after: float = math.inf) -> None:
        self.ends[name] = asyncio.Event()
        with on_behalf_of(claim):
            self.tasks[name] = asyncio.create_task(self._run(name, interruptible_after=interruptible_after))
        await settle()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await settle()

    async def _run(self, name: str, *, interruptible_after: float) -> None:
        try:
            async with self.lane.turn(interruptible_after=interruptible_after):
                self.running.append(name)
                try:
                    await self.ends[name].wait()
                finally:
                    self.running.remove(name)
        except GaveWay:
            self.gave_way.append(name)


def of(name: str, *, signed_in: bool = False) -> Claim:
    return Claim(Caller(name, signed_in), lasting=True)
