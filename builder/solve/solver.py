"""From an `EnvironmentSpec` to a `Lock`, by a process of its own that keeps the channels' repodata warm.

    async with Solver(settings) as solver:
        lock = await solver.solve(spec)

rattler solves in native code that cannot be interrupted, so its process is what is limited: one that takes too long or
too much memory is ended, the request that did it is answered with `SolveLimit` or `ChannelRefused`, and the others are
asked again, as they are when the process dies by itself: those that may have done it each of a process of its own, so
that they harm nobody a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from cachetools import TTLCache

from builder.channels.channel import Credentials, resolve_address
from builder.channels.policy import ChannelPolicy, list_channels
from builder.errors import (
    BuilderError,
    ChannelRefused,
    ChannelUnavailable,
    PackageRefused,
    SolveError,
    SolveLimit,
    UnknownPackage,
    Unsatisfiable,
    WorkerLost,
)
from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec
from builder.network.addresses import AddressGuard
from builder.network.guarding_proxy import GuardingProxy
from builder.solve.frames import OUT_OF_MEMORY, read_frame, write_frame
from builder.solve.repodata_folder import RepodataFolder, format_size
from builder.solve.suspects import Suspects
from builder.solve.virtual_packages import DEFAULT_GLIBC
from builder.work.turns import Lane

log = logging.getLogger(__name__)

_GRACE = 2.0
"""Seconds past the time limit in which the process may still say itself that it is over."""
_WATCH = 0.2
"""Seconds between two looks at the process's memory."""
_REFRESH = 3600.0
"""Seconds that a refresh of all channels may take; each has its own time."""
_REFUSED = 600.0
"""Seconds for which a channel whose index broke a limit is not read again."""
_MOST_REFUSED = 1000
_SHARED = 2
"""How often a request is asked of the process that all share, before it gets one of its own."""
_ALONE = 4
"""Processes with one request each at a time; one caller's requests never have all of them."""
_TRANSFER = 3600.0
"""Seconds that a download from an OCI registry may take."""
_UNLIMITED = -1
"""RLIM_INFINITY (getrlimit(2))."""

_ERRORS: dict[str, type[BuilderError]] = {
    error.__name__: error
    for error in (UnknownPackage, Unsatisfiable, SolveLimit, ChannelUnavailable, ChannelRefused, PackageRefused)
}

Cause = Literal["died", "crashed", "time", "memory", "disk"]
"""`died` is by somebody's signal, `crashed` by a fault of its own."""
_FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP})


@dataclass(frozen=True)
class SolverSettings:
    """Times in seconds, memory in bytes. `glibc` is assumed of a base layer."""

    repodata: Path
    policy: ChannelPolicy = field(default_factory=ChannelPolicy)
    """Of which channels anything is read; its alias is where channels are found by name."""
    credentials: Path | None = None
    glibc: str = DEFAULT_GLIBC
    seconds: float = 120
    reading: float | None = None
    """For the indexes of a request's channels; as many as `seconds` when not told."""
    memory: int = 4 << 30
    priority: int = 5
    """What is added to the process's niceness (nice(2)): who asks for what is there already goes before solves."""
    refresh: float = 900
    """Between background refreshes of repodata in use; 0 turns them off."""
    repodata_size: int = 2 << 30
    """Of one index when expanded."""
    repodata_disk: int = 16 << 30
    """Of all indexes on disk."""
    repodata_channels: int = 100
    """Channels whose repodata is kept in memory."""


class Solver:
    """Solves any number of specs at once. Use it as a context manager; every method may be called concurrently."""

    def __init__(self, settings: SolverSettings) -> None:
        self._settings = settings
        self._proxy = GuardingProxy(AddressGuard(settings.policy.internal))
        self._folder = RepodataFolder(settings.repodata, settings.repodata_disk)
        self._child: _Child | None = None
        self._downloads: _Child | None = None
        """Fetches archives from OCI registries: those are larger than an index may be."""
        self._refused: TTLCache[str, tuple[str, str]] = TTLCache(_MOST_REFUSED, _REFUSED)
        """What ChannelRefused says, by the channel's URL."""
        self._suspects = Suspects(settings.policy)
        self._starting = asyncio.Lock()
        self._alone = Lane(_ALONE, kept=1)
        self._refresher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the process; raises CredentialsInvalid."""
        self._redact = Credentials.read(self._settings.credentials).redact
        self._settings.repodata.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._folder.remove_leftovers)
        await asyncio.to_thread(self._folder.trim)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._proxy)
            stack.push_async_callback(self._close)
            await self._find_living()
            if self._settings.refresh:
                self._refresher = asyncio.create_task(self._refresh_forever())
            self._ends = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ends.aclose()

    async def _close(self) -> None:
        if self._refresher:
            self._refresher.cancel()
            await asyncio.gather(self._refresher, return_exceptions=True)
        for child in (self._child, self._downloads):
            if child:
                await child.close()

    @property
    def pid(self) -> int | None:
        """The process that solves now."""
        return self._child.pid if self._child and not self._child.gone else None

    async def load(self, spec: EnvironmentSpec, seconds: float, *, records: bool = False) -> None:
        """Read the indexes that a solve of `spec` needs, and with `records` all of them that it may choose from.

        Raises ChannelNotAllowed, ChannelUnavailable, ChannelRefused, SolveError, WorkerLost.
        """
        await self._ask_about(spec, "reading indexes", seconds, do="load", records=records)

    async def solve(
        self, spec: EnvironmentSpec, glibc: Mapping[str, str] = MappingProxyType({}), *, seconds: float | None = None
    ) -> Lock:
        """The newest packages that satisfy `spec` on each of its platforms, in `seconds` or what the settings say.

        With `seconds` the indexes have been loaded: when they are not there, the time is too short.
        `glibc` has the version of the base layer's C library by platform, where it is another than the settings say.
        Raises ChannelNotAllowed, UnknownPackage, Unsatisfiable, SolveLimit, ChannelUnavailable, ChannelRefused,
        PackageRefused, WorkerLost.
        """
        begin = time.monotonic()
        answer = await self._ask_about(
            spec,
            "solving",
            self._settings.seconds if seconds is None else seconds,
            do="solve",
            glibc=dict(glibc),
            loaded=seconds is not None,
        )
        packages = {
            platform: tuple(LockedPackage.from_json(package) for package in packages)
            for platform, packages in answer.items()
        }
        lock = Lock(replace(spec, until=None), packages)
        counts = {platform: len(each) for platform, each in packages.items()}
        log.info("solved %s in %.3f s: packages %s", " ".join(spec.match_specs()), time.monotonic() - begin, counts)
        return lock

    async def package_names(self, channels: Sequence[str], platforms: Sequence[str]) -> list[str]:
        """The names of all packages of the channels, sorted; `noarch` is a platform like others here.

        Raises ChannelNotAllowed, ChannelUnavailable, SolveLimit, WorkerLost.
        """
        self._check(channels)
        answer = await self._ask(
            "listing packages", self._settings.seconds, do="names", channels=list(channels), platforms=list(platforms)
        )
        return [str(name) for name in answer]

    async def channels(self) -> list[str]:
        """The URLs of the channels whose repodata is kept."""
        return [str(url) for url in await self._ask("listing channels", self._settings.seconds, do="channels")]

    async def refresh(self) -> None:
        """Ask the channels in use whether they have changed; solves go on with what is known meanwhile."""
        await self._ask("refreshing", _REFRESH, do="refresh")

    async def download(self, url: str, path: Path) -> None:
        """Write what an `oci://` channel has at `url` to `path`, unverified; raises SolveError, WorkerLost."""
        async with self._starting:
            if self._downloads is None or self._downloads.gone:
                if self._downloads:
                    await self._downloads.close()
                self._downloads = await self._start(file_size=_UNLIMITED)
        try:
            await self._ask_of(self._downloads, _TRANSFER, {"do": "download", "url": url, "path": str(path)})
        except _Gone:
            raise WorkerLost("downloading") from None

    def _check(self, channels: Sequence[str]) -> None:
        """Raises ChannelNotAllowed; what may be asked of the channels is let through from now on."""
        policy = self._settings.policy
        for channel in channels:
            self._proxy.admit(policy.address_of(channel), policy.internal_of(channel))

    async def _ask_about(self, spec: EnvironmentSpec, doing: str, seconds: float, **request: Any) -> Any:
        """As `_ask`, and remember of which channels nothing is to be read; raises ChannelNotAllowed, ChannelRefused."""
        channels = list_channels(spec)
        self._check(channels)
        for channel in channels:
            if refused := self._refused.get(resolve_address(channel, self._settings.policy.alias)):
                raise ChannelRefused(*refused)
        try:
            doubtful = self._suspects.are_doubtful(spec)
            return await self._ask(doing, seconds, spec, spec=spec.to_json(), doubtful=doubtful, **request)
        except ChannelRefused as error:
            self._refused[resolve_address(error.channel, self._settings.policy.alias)] = (error.channel, error.reason)
            raise
        except SolveLimit as error:
            raise SolveLimit(error.what, error.limit, error.setting, channels) from None

    async def _ask(self, doing: str, seconds: float, about: EnvironmentSpec | None = None, **request: Any) -> Any:
        """The answer of the process, asked again of another when the first is lost through no fault of this.

        Several requests can be running when a limit is passed, and nobody knows which one did it. Those that read an
        index then may have: they are repeated each in a process of its own, and the one that passes the limit there is
        the one. The others are asked of the next process that all share, and are alone when that is lost, too.
        A suspect is alone at once.
        """
        lost = False
        for _ in range(0 if about and self._suspects.are_apart(about) else _SHARED):
            try:
                return await self._ask_of(await self._find_living(), seconds, {**request, "alone": False})
            except SolveLimit as limit:
                if about and limit.what == "time":
                    self._suspects.note_overdue(about)
                raise
            except _Gone as gone:
                log.warning("the solver process is lost (%s) while %s; asking a new one", gone.cause, doing)
                lost = True
                # the request that took too long has its answer
                if gone.reading and gone.cause != "time":
                    break
        if about and lost:
            self._suspects.doubt(about)
        await self._find_living()
        async with self._alone.turn():
            return await self._ask_alone(doing, seconds, about, request)

    async def _ask_alone(
        self, doing: str, seconds: float, about: EnvironmentSpec | None, request: dict[str, Any]
    ) -> Any:
        """The answer of a process that has no other request; raises what the request did to it."""
        await asyncio.to_thread(self._folder.remove_leftovers)
        child = await self._start()
        try:
            return await self._ask_of(child, seconds, {**request, "alone": True})
        except _Gone as gone:
            if about and gone.cause != "died":
                self._suspects.set_apart(about, channels=True)
            raise self._explain(gone, doing, self._suspects.strangers(about) if about else []) from None
        finally:
            await child.close()
            await asyncio.to_thread(self._folder.remove_leftovers)

    def _explain(self, gone: _Gone, doing: str, strangers: Sequence[str]) -> BuilderError:
        """Why a process is lost that had one request alone, with these channels that are not the server's own."""
        if gone.cause == "memory":
            limit, setting = format_size(self._settings.memory), "solve_memory"
        elif gone.cause == "disk":
            limit, setting = format_size(self._settings.repodata_disk), "repodata_disk"
        elif gone.cause == "crashed" and len(strangers) == 1:
            return ChannelRefused(strangers[0], "the solver crashes at what its index says of the packages asked for")
        else:
            return WorkerLost(doing)
        if len(gone.reading) == 1:
            return ChannelRefused(
                gone.reading[0], f"to read its index takes more than the {limit} that the setting {setting} allows"
            )
        return SolveLimit(gone.cause, limit, setting, gone.reading)

    async def _ask_of(self, child: _Child, seconds: float, request: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(seconds + _GRACE):
                reply = await child.ask({**request, "seconds": seconds})
        except TimeoutError:
            child.kill("time")
            raise SolveLimit("time", f"{seconds:g} s", "solve_seconds") from None
        if "error" in reply:
            raise _make_error(reply["error"])
        return reply["answer"]

    async def _find_living(self) -> _Child:
        async with self._starting:
            if self._child is None or self._child.gone:
                if self._child:
                    if self._child.cause in ("crashed", "memory"):
                        self._suspects.note_loss()
                    await self._child.close()
                self._child = await self._start()
            return self._child

    async def _start(self, file_size: int | None = None) -> _Child:
        """A process of which every request goes out by the proxy."""
        size = file_size or self._settings.repodata_size
        return await _Child.start(self._settings, self._proxy, self._folder, size, self._redact)

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh)
            try:
                await self.refresh()
            except BuilderError as error:
                log.warning("repodata could not be refreshed: %s", error)


def _make_error(document: dict[str, Any]) -> BuilderError:
    """The process's error, as raised here."""
    kind = _ERRORS.get(document["kind"])
    if kind is None:
        return SolveError(f"the solver failed: {document.get('text') or document['fields']}")
    return kind(**document["fields"])


class _Gone(Exception):
    """A signal between the two classes here: the process ended before it answered, while it read these channels."""

    def __init__(self, cause: Cause, reading: Sequence[str] = ()) -> None:
        super().__init__(cause)
        self.cause = cause
        self.reading = tuple(reading)


class _Child:
    """One process: its requests in flight, its log, its memory."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        settings: SolverSettings,
        folder: RepodataFolder,
        redact: Callable[[str], str],
    ) -> None:
        self.gone = False
        self._process = process
        self._reader = reader
        self._writer = writer
        self._settings = settings
        self._folder = folder
        self._redact = redact
        self.cause: Cause = "died"
        """Why it is gone, where it is."""
        self._numbers = itertools.count()
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading: dict[int, list[str]] = {}
        self._busy = asyncio.Event()
        self._log = asyncio.create_task(self._copy_log())
        self._fault = asyncio.create_task(self._note_fault())
        self._tasks = [self._log, self._fault, *map(asyncio.create_task, (self._read(), self._watch()))]

    @classmethod
    async def start(
        cls,
        settings: SolverSettings,
        proxy: GuardingProxy,
        folder: RepodataFolder,
        file_size: int,
        redact: Callable[[str], str],
    ) -> Self:
        """`file_size` in bytes is the most that the process may write into one file."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack, theirs:
            stack.enter_context(ours)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "builder.solve.process",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                # Where this package was imported from, installed or not.
                cwd=Path(__file__).parents[2],
            )
            stack.pop_all()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        configuration = {
            "repodata": str(settings.repodata.absolute()),
            "channel_alias": settings.policy.alias,
            "proxy": proxy.url,
            "credentials": str(settings.credentials.absolute()) if settings.credentials else None,
            "glibc": settings.glibc,
            "memory": settings.memory,
            "reading": settings.seconds if settings.reading is None else settings.reading,
            "repodata_size": file_size,
            "repodata_disk": settings.repodata_disk,
            "repodata_channels": settings.repodata_channels,
            "priority": settings.priority,
            "connections": proxy.most_each,
        }
        writer.write(write_frame(configuration))
        return cls(process, reader, writer, settings, folder, redact)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to `request`; raises _Gone."""
        if self.gone:
            raise _Gone(self.cause)
        number = next(self._numbers)
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        self._busy.set()
        try:
            self._writer.write(write_frame({**request, "id": number}))
            reply: dict[str, Any] = await future
            return reply
        finally:
            self._pending.pop(number, None)
            self._reading.pop(number, None)
            if not self._pending:
                self._busy.clear()

    def kill(self, cause: Cause) -> None:
        if not self.gone:
            self.cause = cause
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._end()

    async def close(self) -> None:
        """End the process by closing its socket, which it takes as its end, or else by force."""
        self._end()
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self) -> None:
        self.gone = True
        for number, future in self._pending.items():
            if not future.done():
                future.set_exception(_Gone(self.cause, self._reading.get(number, ())))

    async def _read(self) -> None:
        try:
            while (reply := await read_frame(self._reader)) is not None:
                number = reply["id"]
                future = self._pending.get(number)
                if "reading" in reply:
                    self._reading[number] = reply["reading"]
                elif future and not future.done():
                    future.set_result(reply)
        finally:
            # its last words say why it ended
            await asyncio.wait({self._log, self._fault}, timeout=_GRACE)
            # it may go on, when what it sent cannot be read
            self.kill(self.cause)

    async def _note_fault(self) -> None:
        if -await self._process.wait() in _FAULTS and self.cause == "died" and not self.gone:
            self.cause = "crashed"

    async def _watch(self) -> None:
        """Look at its unfinished files, and at all memory: with mapped files, which the kernel does not limit."""
        page = os.sysconf("SC_PAGE_SIZE")
        statm = Path(f"/proc/{self._process.pid}/statm")
        while not self.gone:
            await self._busy.wait()
            try:
                resident = int(statm.read_text().split()[1]) * page
            except (OSError, IndexError):
                return
            if resident > self._settings.memory:
                log.warning("the solver process has %d MiB and is ended", resident >> 20)
                self.kill("memory")
            if await asyncio.to_thread(self._folder.unfinished, self.pid) > self._settings.repodata_disk:
                log.warning("the solver process writes more than %s and is ended", format_size(self._folder.most))
                self.kill("disk")
            await asyncio.sleep(_WATCH)

    async def _copy_log(self) -> None:
        """What the process writes to its stderr, without secrets, into this process's log."""
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:
                continue
            if not line:
                return
            if line.startswith(OUT_OF_MEMORY.encode()) and not self.gone:
                self.cause = "memory"
            log.info("solver process: %s", self._redact(line.decode(errors="replace").rstrip()))
