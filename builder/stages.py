"""The limited stages of a build: slots for which builds take turns, and time limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

from builder.errors import StageLimit
from builder.settings import BuilderSettings
from builder.work.turns import Lane

PATIENCE = 10.0
"""Seconds after which a build that makes layers counts as a long one."""
BEGUN = 4
"""Builds that have begun for each that may make layers: enough that the processors always have something to do."""
BEGUN_PATIENCE = 2.0
"""Seconds after which the next build begins beside one that waits for a channel, a solve or a turn."""


@dataclass(frozen=True)
class Stages:
    """The stages of the build itself. Solves, downloads and workers have lanes of their own.

    What builds do between those takes time of the event loop. Hundreds of them would take it from the one of somebody
    signed in, so builds also take turns to begin at all.
    """

    begun: Lane
    layers: Lane
    pack: Lane
    download_seconds: float
    layers_seconds: float

    @classmethod
    def of(cls, settings: BuilderSettings) -> Self:
        count = settings.concurrent_builds
        begun = BEGUN * count
        return cls(
            begun=Lane(
                begun,
                kept=begun // 4,
                long=settings.builds_at_most,
                patience=BEGUN_PATIENCE,
                extra=1,
                what="a turn to begin",
            ),
            layers=Lane(count, kept=count // 4, long=count, patience=PATIENCE, extra=1, what="a turn to make layers"),
            pack=Lane(
                settings.concurrent_archives,
                kept=settings.concurrent_archives // 2,
                extra=1,
                what="a turn to write an archive",
            ),
            download_seconds=settings.build_download_seconds,
            layers_seconds=settings.build_layers_seconds,
        )

    def downloading(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Limit the time to download. Raises StageLimit out of the block if it takes too long."""
        return _within("downloading packages", self.download_seconds, "build_download_seconds")

    @contextlib.asynccontextmanager
    async def making_layers(self) -> AsyncIterator[None]:
        """Wait for a turn to make layers. Raises StageLimit out of the block if it takes too long after that."""
        async with self.layers.turn(), _within("making layers", self.layers_seconds, "build_layers_seconds"):
            yield


@contextlib.asynccontextmanager
async def _within(stage: str, seconds: float, setting: str) -> AsyncIterator[None]:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise StageLimit(stage, seconds, setting) from None
        raise
