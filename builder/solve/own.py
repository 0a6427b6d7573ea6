"""Solvers for namespaces that show credentials of their own to channels.

Each set of credentials has processes of its own, with their indexes in memory and in a folder, which nobody else reads
and which is deleted with them. A process is told its credentials over its socket: they are in no file, no variable and
on no command line.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.channels.logins import Logins
from builder.channels.policy import list_channels
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec
from builder.policy.policy import Policy
from builder.solve.lanes import Solving, SolvingSettings
from builder.solve.settings import SolverSettings
from storage.disk.files import temporary_directory

MOST = 4
"""Sets of credentials that have processes at a time; who needs another one waits until one of them is not used."""
IDLE_SECONDS = 600.0
"""How long processes are kept for another request."""


@dataclass
class _Running:
    solving: Solving
    ends: contextlib.AsyncExitStack
    users: int = 0
    is_leaving: bool = False
    """Whether it ends as soon as nobody uses it, since somebody else waits for its place."""
    idle: asyncio.TimerHandle | None = None


@dataclass
class OwnSolvers:
    """`folder` is for theirs, each in a temporary one. Requests without credentials go to `shared`."""

    shared: Solving
    settings: SolverSettings
    lanes: SolvingSettings
    folder: Path
    _running: dict[str, _Running] = field(default_factory=dict)
    """In the order of their last use."""
    _door: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whoever starts or ends one holds it. Those whose own is running do not wait for that."""
    _left: asyncio.Event = field(default_factory=asyncio.Event)
    _ending: set[asyncio.Task[None]] = field(default_factory=set)

    async def close(self) -> None:
        """End all processes. Nobody may use them any more."""
        async with self._door:
            for key in list(self._running):
                await self._end(key)
        await asyncio.gather(*self._ending)

    async def solve(self, spec: EnvironmentSpec, glibc: Mapping[str, str], policy: Policy, logins: Logins) -> Lock:
        """Raises what `Solving.solve` does."""
        async with self._use(logins) as solving:
            return await solving.solve(spec, glibc, policy)

    async def list_package_names(self, spec: EnvironmentSpec, logins: Logins) -> frozenset[str]:
        """The names of all packages that the spec's channels have. Raises what `Solver.list_package_names` does."""
        async with self._use(logins) as solving:
            return frozenset(await solving.list_package_names(list_channels(spec), [*spec.platforms, "noarch"]))

    async def download(self, url: str, path: Path, logins: Logins) -> None:
        """Raises what `Solver.download` does."""
        async with self._use(logins) as solving:
            await solving.download(url, path)

    @contextlib.asynccontextmanager
    async def _use(self, logins: Logins) -> AsyncIterator[Solving]:
        if not logins.key:
            yield self.shared
            return
        running = self._find(logins.key)
        if running is None:
            async with self._door:
                running = self._find(logins.key) or await self._start(logins)
                self._running[logins.key] = running
        running.users += 1
        try:
            yield running.solving
        finally:
            running.users -= 1
            self._left.set()
            if running.idle:
                running.idle.cancel()
            running.idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._begin_ending, logins.key)

    def _find(self, key: str) -> _Running | None:
        """The one for these credentials that may be used, which is then the last that was."""
        running = self._running.get(key)
        if running is None or running.is_leaving:
            return None
        self._running[key] = self._running.pop(key)
        return running

    async def _make_room(self) -> None:
        """End what was used longest ago. Nobody else begins to use that, or those who need room would wait for ever."""
        while len(self._running) >= MOST:
            unused = next((key for key, running in self._running.items() if not running.users), None)
            if unused is not None:
                await self._end(unused)
                continue
            oldest = next(iter(self._running.values()))
            oldest.is_leaving = True
            try:
                self._left.clear()
                await self._left.wait()
            finally:
                oldest.is_leaving = False

    async def _start(self, logins: Logins) -> _Running:
        await self._make_room()
        async with contextlib.AsyncExitStack() as stack:
            folder = await asyncio.to_thread(stack.enter_context, temporary_directory(self.folder))
            settings = replace(self.settings, repodata=folder, logins=logins)
            solving = await stack.enter_async_context(Solving(settings, self.lanes))
            return _Running(solving, stack.pop_all())

    def _begin_ending(self, key: str) -> None:
        # a task that nobody cancels: if the end of the process were interrupted, the process would stay
        task = asyncio.create_task(self._end_idle(key))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_idle(self, key: str) -> None:
        async with self._door:
            running = self._running.get(key)
            if running is not None and not running.users:
                await self._end(key)

    async def _end(self, key: str) -> None:
        running = self._running.pop(key)
        if running.idle:
            running.idle.cancel()
        await running.ends.aclose()
