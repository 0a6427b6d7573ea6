"""From an `EnvironmentSpec` to a `Lock`, with a process of its own that keeps the channels' repodata warm.

    async with Solver(settings) as solver:
        lock = await solver.solve(spec)

rattler solves in native code that cannot be interrupted, so the limits apply to its process. A process that takes too
long or too much memory is killed. The request that caused it is answered with `SolveLimit` or `ChannelRefused`, and the
others are asked again; so are all of them if the process dies by itself. Requests that may have caused the death each
get a process of their own, so that they do no harm a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import structlog
from cachetools import TTLCache

from builder.channels.channel import Credentials, resolve_address
from builder.channels.policy import list_channels
from builder.errors import (
    BuilderError,
    ChannelRefused,
    ChannelUnavailable,
    PackageRefused,
    PolicyRefusal,
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
from builder.policy.policy import NO_POLICY, Policy, find_moment
from builder.search.index_file import Written
from builder.solve.child import GRACE, Child, Gone
from builder.solve.indexes.folder import RepodataFolder, format_size
from builder.solve.policy_files import write_policy
from builder.solve.settings import SolverSettings
from builder.solve.suspects import Suspects
from builder.work.turns import Lane

log = structlog.get_logger(__name__)

_REFRESH = 3600.0
"""Seconds that a refresh of all channels may take. Each channel has a limit of its own."""
_REFUSED = 600.0
"""Seconds for which a channel is not read again after its index broke a limit."""
_MOST_REFUSED = 1000
_SHARED = 2
"""How often a request is sent to the shared process before it gets one of its own."""
_ALONE = 4
"""Processes with a single request at a time. One caller's requests never have all of them."""
_TRANSFER = 3600.0
"""Seconds that a download from an OCI registry may take."""
LISTING_PRIORITY = 15
"""What is added to the niceness of a process that lists packages for searches (nice(2)): builds go first."""
_UNLIMITED = -1
"""RLIM_INFINITY (getrlimit(2))."""

_ERRORS: dict[str, type[BuilderError]] = {
    error.__name__: error
    for error in (
        UnknownPackage,
        Unsatisfiable,
        PolicyRefusal,
        SolveLimit,
        ChannelUnavailable,
        ChannelRefused,
        PackageRefused,
    )
}


class Solver:
    """Solves any number of specs at once.

    Use it as an async context manager; all methods may be called concurrently.
    """

    def __init__(self, settings: SolverSettings) -> None:
        self._settings = settings
        self._proxy = GuardingProxy(AddressGuard(settings.policy.internal), pinned=settings.logins.endpoints)
        self._folder = RepodataFolder(settings.repodata, settings.repodata_disk)
        self._child: Child | None = None
        self._downloads: Child | None = None
        """Fetches archives from OCI registries, which are larger than an index may be."""
        self._refused: TTLCache[str, tuple[str, str]] = TTLCache(_MOST_REFUSED, _REFUSED)
        """The arguments of ChannelRefused, by the channel's URL."""
        self._suspects = Suspects(settings.policy)
        self._starting = asyncio.Lock()
        self._alone = Lane(_ALONE, kept=1, extra=1, what="a turn to solve")
        self._refresher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the process. Raises LoginsFileUnusable."""
        self._credentials = Credentials.read(self._settings.credentials)
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

    def _redact(self, text: str) -> str:
        return self._settings.logins.redact(self._credentials.redact(text))

    async def _close(self) -> None:
        if self._refresher:
            self._refresher.cancel()
            await asyncio.gather(self._refresher, return_exceptions=True)
        for child in (self._child, self._downloads):
            if child:
                await child.close()

    @property
    def pid(self) -> int | None:
        """The id of the process that solves now."""
        return self._child.pid if self._child and not self._child.gone else None

    async def load(self, spec: EnvironmentSpec, seconds: float, *, records: bool = False) -> None:
        """Read the indexes that a solve of `spec` needs. With `records`, read all records that it may choose from too.

        Raises ChannelNotAllowed, ChannelUnavailable, ChannelRefused, PackageRefused, SolveError, WorkerLost.
        """
        await self._ask_about(spec, "reading indexes", seconds, do="load", records=records)

    async def solve(
        self,
        spec: EnvironmentSpec,
        glibc: Mapping[str, str] = MappingProxyType({}),
        policy: Policy = NO_POLICY,
        *,
        seconds: float | None = None,
    ) -> Lock:
        """Find the newest packages that satisfy `spec` on each of its platforms and that `policy` does not refuse.

        It may take `seconds`, or the time in the settings. If `seconds` is given, the indexes must be loaded; if they
        are not, the time is too short. `glibc` has the version of the base layer's C library by platform, where it
        differs from the settings. Raises ChannelNotAllowed, UnknownPackage, Unsatisfiable, SolveLimit,
        PolicyRefusal, ChannelUnavailable, ChannelRefused, PackageRefused, WorkerLost.
        """
        begin = time.monotonic()
        answer = await self._ask_about(
            spec,
            "solving",
            self._settings.seconds if seconds is None else seconds,
            do="solve",
            glibc=dict(glibc),
            loaded=seconds is not None,
            policy=await self._hand_over(policy),
            at=find_moment(spec, time.time()),
        )
        packages = {
            platform: tuple(LockedPackage.from_json(package) for package in packages)
            for platform, packages in answer.items()
        }
        lock = Lock(replace(spec, until=None), packages)
        counts = {platform: len(each) for platform, each in packages.items()}
        log.info("solved", specs=spec.match_specs(), seconds=round(time.monotonic() - begin, 3), packages=counts)
        return lock

    async def _hand_over(self, policy: Policy) -> str | None:
        """The path of a file from which the process reads what the policy keeps back: it may have megabytes."""
        if not policy.removes:
            return None
        # absolute, because the process works in another directory
        folder = self._settings.repodata.absolute() / "policies"
        return str(await asyncio.to_thread(write_policy, folder, policy))

    async def list_package_names(self, channels: Sequence[str], platforms: Sequence[str]) -> list[str]:
        """List the names of all packages in the channels, sorted. `noarch` is a platform like any other here.

        Raises ChannelNotAllowed, ChannelUnavailable, SolveLimit, WorkerLost.
        """
        self._check(channels)
        answer = await self._ask(
            "listing packages", self._settings.seconds, do="names", channels=list(channels), platforms=list(platforms)
        )
        return [str(name) for name in answer]

    async def channels(self) -> list[str]:
        """List the URLs of the channels whose repodata is kept."""
        return [str(url) for url in await self._ask("listing channels", self._settings.seconds, do="channels")]

    async def refresh(self) -> None:
        """Ask the channels in use whether they have changed. Meanwhile solves use what is loaded."""
        await self._ask("refreshing", _REFRESH, do="refresh")

    async def download(self, url: str, path: Path) -> None:
        """Download `url` of an `oci://` channel to `path`, unverified. Raises SolveError, WorkerLost."""
        async with self._starting:
            if self._downloads is None or self._downloads.gone:
                if self._downloads:
                    await self._downloads.close()
                self._downloads = await self._start(file_size=_UNLIMITED)
        try:
            await self._ask_of(self._downloads, _TRANSFER, {"do": "download", "url": url, "path": str(path.absolute())})
        except Gone:
            raise WorkerLost("downloading") from None

    async def list_packages(self, channel: str, platforms: Sequence[str], path: Path, seconds: float) -> Written:
        """Write the index of all packages of `channel` to `path`, in a process of its own.

        Raises ChannelNotAllowed, ChannelUnavailable, ChannelRefused, SolveError, WorkerLost.
        """
        self._check([channel])
        doing = "listing packages"
        child = await self._start(priority=LISTING_PRIORITY)
        request = {"channel": channel, "platforms": list(platforms), "path": str(path.absolute()), "alone": True}
        try:
            return Written(**await self._ask_of(child, seconds, {"do": "packages", **request}))
        except SolveLimit:
            raise ChannelUnavailable(channel, f"its packages could not be listed within {seconds:g} s") from None
        except Gone as gone:
            raise self._explain(Gone(gone.cause, [channel]), doing, [channel]) from None
        finally:
            await child.close()
            await asyncio.to_thread(self._folder.remove_leftovers)

    def _check(self, channels: Sequence[str]) -> None:
        """Raises ChannelNotAllowed. The proxy admits requests to these channels from now on."""
        policy = self._settings.policy
        for channel in channels:
            self._proxy.admit(policy.address_of(channel), policy.internal_of(channel))

    async def _ask_about(self, spec: EnvironmentSpec, doing: str, seconds: float, **request: Any) -> Any:
        """Ask like `_ask`, and remember which channels must not be read. Raises ChannelNotAllowed, ChannelRefused."""
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
        """Return the process's answer. If the process is lost through no fault of this request, ask another.

        Several requests may be running when a limit is exceeded, and nobody knows which one did it. Suspects are those
        that were reading an index then, and all that were in a process that no longer answered: each is repeated in a
        process of its own, and the one that exceeds the limit there is to blame. The others go to the next shared
        process, and get one of their own if that is lost too. A known suspect gets its own process at once.
        """
        lost = False
        for _ in range(0 if about and self._suspects.are_apart(about) else _SHARED):
            try:
                return await self._ask_of(await self._find_living(), seconds, {**request, "alone": False})
            except SolveLimit as limit:
                if about and limit.what == "time":
                    self._suspects.note_overdue(about)
                raise
            except Gone as gone:
                log.warning("solver process lost; asking another", cause=gone.cause, doing=doing)
                lost = True
                if gone.reading or gone.cause == "time":
                    break
        if about and lost:
            self._suspects.doubt(about)
        await self._find_living()
        async with self._alone.turn():
            return await self._ask_alone(doing, seconds, about, request)

    async def _ask_alone(
        self, doing: str, seconds: float, about: EnvironmentSpec | None, request: dict[str, Any]
    ) -> Any:
        """Return the answer of a process that has no other request. Raises what the request did to that process."""
        await asyncio.to_thread(self._folder.remove_leftovers)
        child = await self._start()
        try:
            return await self._ask_of(child, seconds, {**request, "alone": True})
        except SolveLimit:
            if about and child.cause == "time":
                self._suspects.set_apart(about, channels=True)
            raise
        except Gone as gone:
            if about and gone.cause != "died":
                self._suspects.set_apart(about, channels=True)
            raise self._explain(gone, doing, self._suspects.list_strangers(about) if about else []) from None
        finally:
            await child.close()
            await asyncio.to_thread(self._folder.remove_leftovers)

    def _explain(self, gone: Gone, doing: str, strangers: Sequence[str]) -> BuilderError:
        """Explain why a process with a single request was lost.

        `strangers` are its channels that are not the server's own.
        """
        if gone.cause == "memory":
            limit, setting = format_size(self._settings.memory), "solve_memory"
        elif gone.cause == "disk":
            limit, setting = format_size(self._settings.repodata_disk), "repodata_disk"
        elif gone.cause == "crashed" and len(strangers) == 1:
            return ChannelRefused(strangers[0], "the solver crashes on its records of the requested packages")
        else:
            return WorkerLost(doing)
        if len(gone.reading) == 1:
            return ChannelRefused(
                gone.reading[0], f"reading its index takes more than the {limit} that the setting {setting} allows"
            )
        return SolveLimit(gone.cause, limit, setting, gone.reading)

    async def _ask_of(self, child: Child, seconds: float, request: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(seconds + GRACE):
                reply = await child.ask({**request, "seconds": seconds})
        except TimeoutError:
            child.kill("time")
            raise SolveLimit("time", f"{seconds:g} s", "solve_seconds") from None
        if "error" in reply:
            raise _make_error(reply["error"])
        return reply["answer"]

    async def _find_living(self) -> Child:
        async with self._starting:
            if self._child is None or self._child.gone:
                if self._child:
                    if self._child.cause in ("crashed", "memory", "time"):
                        self._suspects.note_loss()
                    await self._child.close()
                self._child = await self._start()
            return self._child

    async def _start(self, file_size: int | None = None, priority: int | None = None) -> Child:
        """Start a process, all of whose requests go out through the proxy."""
        size = file_size or self._settings.repodata_size
        settings = self._settings if priority is None else replace(self._settings, priority=priority)
        return await Child.start(settings, self._proxy, self._folder, size, self._redact)

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh)
            try:
                await self.refresh()
            except BuilderError as error:
                log.warning("repodata not refreshed", reason=str(error))


def _make_error(document: dict[str, Any]) -> BuilderError:
    """Rebuild the process's error, to be raised here."""
    kind = _ERRORS.get(document["kind"])
    if kind is None:
        return SolveError(f"the solver failed: {document.get('text') or document['fields']}")
    return kind(**document["fields"])
