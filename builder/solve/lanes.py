"""Solves in three lanes, so that hard solves hold up nobody.

  first    short tries, many at a time, in the process that has everything in memory
  second   longer tries, one for each core, in a second process, which gives way to all other work of builds
  long     all the time that a solve may have, a few at a time, in the second process

What a solve takes is known only afterwards, and a running one cannot be moved to another process. So nobody waits for a
turn in the first lane: the processor's time is shared by all who came at once, and those that are not done soon start
again where they disturb nobody. A solve that is alone in the first lane is given as much time there as it would get by
waiting in the second, and goes on to the long lane.

Indexes are read beforehand, without a slot in any lane, so that a channel that answers slowly or never delays only its
own requests.
"""

from __future__ import annotations

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
from builder.policy.policy import NO_POLICY, Policy
from builder.search.index_file import Written
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from builder.solve.spare import SpareSolver
from builder.work.turns import Lane
from builder.work.usage import Usage

LOADS = MOST_CONNECTIONS // 20
"""Requests that read indexes at a time. One that hangs holds about two connections for each platform of each channel;
the process that all share has ten for each."""
FIRST_SECONDS = 0.75
"""For a try in the first lane beside others. Most solves of an idle server take less than half of it."""
SECOND_FACTOR = 2
"""How many times the seconds of a try alone one in the second lane has."""
PER_CORE = 8
"""Tries in the first lane, as long as they are."""
_TURN = "a turn to solve"
LOW_PRIORITY = 15
"""What is added to the niceness of the second process: more than workers have (nice(2))."""


@dataclass(frozen=True)
class SolvingSettings:
    """`quick` and `load` are in seconds; `quick` is for a try alone; `long` is the number of concurrent long solves."""

    quick: float = 5
    load: float = 120
    long: int = 1


class Solving:
    """Does what `Solver` does, for any number of callers. Use it as an async context manager."""

    def __init__(self, settings: SolverSettings, lanes: SolvingSettings) -> None:
        self._settings = settings = replace(settings, reading=lanes.load)
        self._lanes = lanes
        cores = max(2, os.cpu_count() or 1)
        share = cores - max(1, cores // 4)
        usage = Usage()
        self._loading = Lane(LOADS, kept=LOADS // 2, extra=1, what="a turn to load channels")
        self._first = Lane(PER_CORE * cores, kept=PER_CORE * cores - share, usage=usage, extra=1, what=_TURN)
        self._second = Lane(cores, kept=cores - share, usage=usage, extra=1, what=_TURN)
        self._long = Lane(lanes.long, kept=lanes.long // 2, usage=usage, extra=1, what=_TURN)
        self._solver = Solver(settings)
        self._spare = SpareSolver(replace(settings, priority=LOW_PRIORITY))

    async def __aenter__(self) -> Self:
        """Start the first lane's process. Raises LoginsFileUnusable."""
        await self._solver.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._spare.close()
        await self._solver.__aexit__()

    @property
    def pid(self) -> int | None:
        """The id of the first lane's process."""
        return self._solver.pid

    async def solve(
        self, spec: EnvironmentSpec, glibc: Mapping[str, str] = MappingProxyType({}), policy: Policy = NO_POLICY
    ) -> Lock:
        """Find the newest packages that satisfy `spec` on each of its platforms and that `policy` does not refuse.

        Raises ChannelNotAllowed, PolicyRefusal, UnknownPackage, Unsatisfiable, SolveLimit, ChannelUnavailable,
        ChannelRefused, PackageRefused, WorkerLost.
        """
        async with self._loading.turn():
            await self._solver.load(spec, self._lanes.load)
        async with self._first.turn():
            alone = self._first.taken == 1 and not self._first.waiting
            seconds = self._lanes.quick if alone else min(FIRST_SECONDS, self._lanes.quick)
            lock = await self._try(self._solver, spec, glibc, policy, seconds)
        return lock or await self._solve_longer(spec, glibc, policy, alone=alone)

    async def _solve_longer(
        self, spec: EnvironmentSpec, glibc: Mapping[str, str], policy: Policy, *, alone: bool
    ) -> Lock:
        async with self._spare.use() as solver:
            # the records too: those of a sharded channel are fetched only when needed
            async with self._loading.turn():
                await solver.load(spec, self._lanes.load, records=True)
            if not alone:
                async with self._second.turn():
                    if lock := await self._try(solver, spec, glibc, policy, SECOND_FACTOR * self._lanes.quick):
                        return lock
            async with self._long.turn():
                return await solver.solve(spec, glibc, policy)

    async def _try(
        self, solver: Solver, spec: EnvironmentSpec, glibc: Mapping[str, str], policy: Policy, seconds: float
    ) -> Lock | None:
        """None if `seconds` are over, and a solve may take more."""
        seconds = min(seconds, self._settings.seconds)
        try:
            return await solver.solve(spec, glibc, policy, seconds=seconds)
        except SolveLimit as limit:
            if limit.what != "time" or seconds == self._settings.seconds:
                raise
        return None

    async def list_package_names(self, channels: Sequence[str], platforms: Sequence[str]) -> list[str]:
        """Do what `Solver.list_package_names` does."""
        return await self._solver.list_package_names(channels, platforms)

    async def list_packages(self, channel: str, platforms: Sequence[str], path: Path, seconds: float) -> Written:
        """Do what `Solver.list_packages` does."""
        return await self._solver.list_packages(channel, platforms, path, seconds)

    async def refresh(self) -> None:
        """Do what `Solver.refresh` does. The second process refreshes itself."""
        await self._solver.refresh()

    async def download(self, url: str, path: Path) -> None:
        """Do what `Solver.download` does."""
        await self._solver.download(url, path)
