"""Solves in two lanes, so that hard solves hold up nobody.

Every solve starts in the quick lane, whose process has everything in memory. A solve that takes more than some seconds
there is stopped and starts again in the long lane. That lane gives it all the time that a solve may have, in a process
of its own with the lowest priority, a few solves at a time. Indexes are read beforehand, without a slot in either lane,
so that a channel that answers slowly or never delays only its own requests.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Self

from builder.errors import SolveLimit
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec
from builder.network.guarding_proxy import MOST_CONNECTIONS
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from builder.work.turns import Lane

LOADS = MOST_CONNECTIONS // 20
"""Requests that read indexes at a time. One that hangs holds about two connections for each platform of each channel;
the process that all share has ten for each."""
LOWEST_PRIORITY = 19
IDLE_SECONDS = 60.0
"""How long the long lane's process, and the repodata in it, are kept for another solve."""


@dataclass(frozen=True)
class SolvingSettings:
    """`quick` and `load` are in seconds; `long` is the number of concurrent solves in the long lane."""

    quick: float = 5
    load: float = 120
    long: int = 1


class Solving:
    """Does what `Solver` does, for any number of callers. Use it as an async context manager."""

    def __init__(self, settings: SolverSettings, lanes: SolvingSettings) -> None:
        self._settings = settings = replace(settings, reading=lanes.load)
        self._lanes = lanes
        cores = os.cpu_count() or 1
        self._loading = Lane(LOADS, kept=LOADS // 2)
        self._quick = Lane(max(2, cores), kept=max(1, cores // 4))
        self._long = Lane(lanes.long, kept=lanes.long // 2)
        self._solver = Solver(settings)
        self._long_solver: Solver | None = None
        self._long_users = 0
        self._changing = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Start the quick lane's process. Raises CredentialsInvalid."""
        await self._solver.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._idle:
            self._idle.cancel()
        await asyncio.gather(*self._ending)
        if self._long_solver:
            await self._long_solver.__aexit__()
        await self._solver.__aexit__()

    @property
    def pid(self) -> int | None:
        """The process id of the quick lane."""
        return self._solver.pid

    async def solve(self, spec: EnvironmentSpec, glibc: Mapping[str, str] = MappingProxyType({})) -> Lock:
        """Find the newest packages that satisfy `spec` on each of its platforms.

        Raises ChannelNotAllowed, UnknownPackage, Unsatisfiable, SolveLimit, ChannelUnavailable, ChannelRefused,
        PackageRefused, WorkerLost.
        """
        async with self._loading.turn():
            await self._solver.load(spec, self._lanes.load)
        quick = min(self._lanes.quick, self._settings.seconds)
        try:
            async with self._quick.turn():
                return await self._solver.solve(spec, glibc, seconds=quick)
        except SolveLimit as limit:
            if limit.what != "time" or quick == self._settings.seconds:
                raise
        return await self._solve_long(spec, glibc)

    async def _solve_long(self, spec: EnvironmentSpec, glibc: Mapping[str, str]) -> Lock:
        self._long_users += 1
        try:
            async with self._changing:
                if self._long_solver is None:
                    self._long_solver = await Solver(replace(self._settings, priority=LOWEST_PRIORITY)).__aenter__()
                solver = self._long_solver
            # the records too: those of a sharded channel are fetched only when needed
            async with self._loading.turn():
                await solver.load(spec, self._lanes.load, records=True)
            async with self._long.turn():
                return await solver.solve(spec, glibc)
        finally:
            self._long_users -= 1
            if self._idle:
                self._idle.cancel()
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._begin_ending)

    def _begin_ending(self) -> None:
        # a task that nobody cancels: if its end were interrupted, the process would stay
        task = asyncio.create_task(self._end_idle())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_idle(self) -> None:
        """End the long lane's process if nobody uses it."""
        async with self._changing:
            if self._long_solver and not self._long_users:
                solver, self._long_solver = self._long_solver, None
                await solver.__aexit__()

    async def list_package_names(self, channels: Sequence[str], platforms: Sequence[str]) -> list[str]:
        """Do what `Solver.list_package_names` does."""
        return await self._solver.list_package_names(channels, platforms)

    async def refresh(self) -> None:
        """Do what `Solver.refresh` does. The long lane's process refreshes itself."""
        await self._solver.refresh()

    async def download(self, url: str, path: Path) -> None:
        """Do what `Solver.download` does."""
        await self._solver.download(url, path)
