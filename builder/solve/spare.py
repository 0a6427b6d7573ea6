"""A solver that runs only while somebody needs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver

IDLE_SECONDS = 60.0
"""How long its process, and the repodata in it, are kept for another solve."""


class SpareSolver:
    """Starts a `Solver` for the first who needs it, and ends it when nobody has for IDLE_SECONDS."""

    def __init__(self, settings: SolverSettings) -> None:
        self._settings = settings
        self._solver: Solver | None = None
        self._users = 0
        self._changing = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End the solver. Nobody may use it any more."""
        if self._idle:
            self._idle.cancel()
        await asyncio.gather(*self._ending)
        if self._solver:
            await self._solver.__aexit__()

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[Solver]:
        """Raises what `Solver` does when it is entered."""
        self._users += 1
        try:
            yield await self._find()
        finally:
            self._users -= 1
            if self._idle:
                self._idle.cancel()
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._begin_ending)

    async def _find(self) -> Solver:
        async with self._changing:
            if self._solver is None:
                self._solver = await Solver(self._settings).__aenter__()
            return self._solver

    def _begin_ending(self) -> None:
        # a task that nobody cancels: if the end of the process were interrupted, the process would stay
        task = asyncio.create_task(self._end_idle())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_idle(self) -> None:
        """End the solver if nobody uses it."""
        async with self._changing:
            if self._solver and not self._users:
                solver, self._solver = self._solver, None
                await solver.__aexit__()
