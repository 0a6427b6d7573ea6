"""A base that looks once for all who ask at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter

from builder.base.vocabulary import Base, BaseImage
from builder.work.single_flight import SingleFlight


class SharedBase:
    """A Base over another one, which resolves one platform at a time and has a thread and the database look each time.

    Every build resolves its base, twice. With hundreds of them, each would wait until all before it have had a look.
    Here all who ask while a look is under way share the next one: none gets an answer from before its question.
    """

    def __init__(self, base: Base) -> None:
        self._base = base
        self.reference = base.reference
        self._looking = asyncio.Lock()
        self._begun: Counter[str] = Counter()
        """Looks so far, by platform."""
        self._looks: SingleFlight[tuple[str, int], BaseImage] = SingleFlight()

    async def resolve(self, platform: str) -> BaseImage:
        return await self._looks.do((platform, self._begun[platform]), lambda: self._look(platform))

    async def _look(self, platform: str) -> BaseImage:
        async with self._looking:
            self._begun[platform] += 1
            return await self._base.resolve(platform)

    async def close(self) -> None:
        await self._looks.close()
