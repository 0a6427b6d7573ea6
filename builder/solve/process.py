"""The process that solves: a warm rattler `Gateway`, and requests over a socket. `builder.solve.solver` starts it.

The first frame is the configuration, every further one a request `{"id", "do", ...}`. Answers come in any order, as
`{"id", "answer"}` or `{"id", "error"}`. The process ends when the socket closes.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import structlog
from rattler import Channel, Gateway, Subdir
from rattler.exceptions import GatewayError, ParseSubdirError
from rattler.package_streaming import download_to_path

from builder.channels.channel import Credentials, resolve_address
from builder.channels.logins import Logins
from builder.channels.policy import list_channels
from builder.errors import BuilderError, ChannelUnavailable, SolveLimit, Unsatisfiable
from builder.names.spec import EnvironmentSpec
from builder.search.package import SearchedChannel
from builder.solve.frames import LARGEST, OUT_OF_MEMORY, read_frame, write_frame
from builder.solve.indexes.client import make_client
from builder.solve.indexes.folder import RepodataFolder
from builder.solve.indexes.listing import ChannelListing
from builder.solve.indexes.repodata import Repodata, RepodataLimits
from builder.solve.platform_solve import PlatformSolve
from builder.solve.policy_files import PolicyFiles
from builder.solve.reasons import list_package_names
from storage.catalog.credential import NamespaceCredential

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG = 1
_LEAST = 0.5
"""Seconds that a solve gets at least, however long reading the indexes took."""
_STOPPING = 1.0
"""Seconds in which a solve should stop when its time is up. The parent waits a little longer for an answer."""


@dataclass(frozen=True)
class Configuration:
    """What the process is told once. `glibc` is the version of `__glibc` for requests that give none.

    `proxy` is the only way out, with its password.
    """

    repodata: str
    channel_alias: str
    proxy: str
    credentials: str | None
    owner: str
    """The namespace whose credentials `held` are, as `storage.catalog.credential.NamespaceCredential` has them."""
    held: list[dict[str, str]] = field(repr=False)
    glibc: str
    memory: int
    """Bytes of memory that the process may have. An allocation beyond ends it."""
    reading: float
    """Seconds in which the indexes of a request's channels must arrive."""
    repodata_size: int
    repodata_disk: int
    repodata_channels: int
    connections: int
    """Connections that the proxy allows this process."""


class SolverProcess:
    """Answers the requests of one `Solver`."""

    def __init__(self, configuration: Configuration, notice: Callable[[int, tuple[str, ...]], None]) -> None:
        self._notice = notice
        self._alias = configuration.channel_alias
        self._glibc = configuration.glibc
        self._credentials = Credentials.read(Path(configuration.credentials) if configuration.credentials else None)
        self._logins = Logins.of(configuration.owner, [NamespaceCredential(**each) for each in configuration.held])  # type: ignore[arg-type] # its fields as they were
        folder = Path(configuration.repodata)
        home = folder / "home"
        home.mkdir(exist_ok=True)
        self._folder = RepodataFolder(folder, configuration.repodata_disk)
        self._limits = RepodataLimits(
            configuration.reading,
            configuration.repodata_size,
            configuration.repodata_channels,
            configuration.connections,
        )
        client = make_client(configuration.proxy, self._credentials, self._logins, home)
        self._repodata = Repodata(self._folder, client, self._limits)

        self._policies = PolicyFiles()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to a request. Never raises because of the request's content."""
        try:
            return {"id": request["id"], "answer": await self._do(request)}
        except BuilderError as error:
            fields = {name: self._clean(value) for name, value in vars(error).items()}
            return {"id": request["id"], "error": {"kind": type(error).__name__, "fields": fields}}
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except MemoryError:
            _end_for_memory()
        except BaseException as error:  # noqa: BLE001 - whatever is in rattler or the request (its panics are not Exceptions), other requests must go on
            log.warning("request failed", traceback=self._clean(traceback.format_exc()))
            return {"id": request["id"], "error": {"kind": "", "text": self._clean(str(error))}}

    async def _do(self, request: dict[str, Any]) -> Any:
        match request["do"]:
            case "solve":
                spec = EnvironmentSpec.from_json(request["spec"])
                glibc = dict.fromkeys(spec.platforms, self._glibc) | request["glibc"]
                return await self._solve(spec, glibc, request)
            case "load":
                await self._load(EnvironmentSpec.from_json(request["spec"]), request)
                return None
            case "names":
                return sorted(await self._list_names(request["channels"], request["platforms"]))
            case "refresh":
                await self._repodata.refresh()
                return None
            case "channels":
                return list(self._repodata.channels)
            case "download":
                await download_to_path(self._repodata.client, request["url"], Path(request["path"]))
                return None
            case "packages":
                return await self._list_packages(request)
            case unknown:
                raise ValueError(f"unknown request {unknown}")

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._logins.redact(self._credentials.redact(value))
        return [self._clean(each) for each in value] if isinstance(value, tuple | list) else value

    async def _list_names(self, channels: list[str], platforms: list[str]) -> set[str]:
        urls = [resolve_address(channel, self._alias) for channel in channels]
        gateway = await self._repodata.open_gateway(urls, platforms)
        return await list_package_names(gateway, urls, platforms)

    async def _list_packages(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write the index of a channel's packages. Raises ChannelUnavailable, ChannelRefused, StorageFull."""
        channel = SearchedChannel(request["channel"], resolve_address(request["channel"], self._alias))
        source = ChannelListing(channel, request["platforms"], self._repodata.client, self._folder, self._limits)
        return await source.write(Path(request["path"]))

    async def _load(self, spec: EnvironmentSpec, request: dict[str, Any]) -> None:
        """Load the channels.

        Raises ChannelUnavailable for one that is not complete within the request's seconds, ChannelRefused,
        PackageRefused.
        """
        seconds: float = request["seconds"]
        channels = self._list_channels(spec)
        try:
            async with asyncio.timeout(seconds):
                gateway = await self._open_gateway(spec, channels, request)
                if request["records"]:
                    platforms = [*map(Subdir, spec.platforms), Subdir("noarch")]
                    names = sorted({item.name for item in spec.items})
                    if _needs_check(request):
                        # the query follows dependencies, so it parses them
                        for platform in spec.platforms:
                            await self._repodata.records.check(gateway, channels, platform, names)
                    await gateway.query(list(map(Channel, channels)), platforms, names, channel_relations="disabled")
        except TimeoutError:
            raise _describe_missing(channels, seconds) from None
        except GatewayError as error:
            raise self._repodata.make_error(channels, str(error)) from None

    def _list_channels(self, spec: EnvironmentSpec) -> dict[str, str]:
        """Map URL to name for the channels of `spec`, in order of priority."""
        channels: dict[str, str] = {}
        for name in list_channels(spec):
            channels.setdefault(resolve_address(name, self._alias), name)
        return channels

    async def _open_gateway(self, spec: EnvironmentSpec, channels: dict[str, str], request: dict[str, Any]) -> Gateway:
        """Return a gateway in which all channels are loaded."""
        for platform in spec.platforms:
            _check_platform(platform)
        return await self._repodata.open_gateway(
            channels,
            {*spec.platforms, "noarch"},
            lambda urls: self._notice(request["id"], tuple(channels[url] for url in urls)),
            one_by_one=request["alone"],
        )

    async def _solve(self, spec: EnvironmentSpec, glibc: dict[str, str], request: dict[str, Any]) -> dict[str, Any]:
        """Return the packages of every platform, in the form of `LockedPackage.to_json`."""
        seconds: float = request["seconds"]
        begun = time.monotonic()
        channels = self._list_channels(spec)
        too_long = SolveLimit("time", f"{seconds:g} s", "solve_seconds", list(channels.values()))
        try:
            async with asyncio.timeout(seconds):
                await self._open_gateway(spec, channels, request)
        except TimeoutError:
            # indexes that were loaded before were in a process that has been lost meanwhile
            raise too_long if request["loaded"] else _describe_missing(channels, seconds) from None
        left = max(seconds - (time.monotonic() - begun), _LEAST)
        policy = await self._policies.find(request["policy"])
        solve = PlatformSolve(
            self._repodata, channels, self._alias, spec, glibc, left, _needs_check(request), policy, request["at"]
        )
        try:
            # sharded records are read meanwhile, and a solve may not stop when it should
            async with asyncio.timeout(left + _STOPPING):
                return await self._solve_all(solve)
        except TimeoutError:
            raise too_long from None

    async def _solve_all(self, solve: PlatformSolve) -> dict[str, Any]:
        spec = solve.spec
        solutions = await asyncio.gather(*map(solve.packages, spec.platforms), return_exceptions=True)
        answer: dict[str, Any] = {}
        for platform, solution in zip(spec.platforms, solutions, strict=True):
            if isinstance(solution, BaseException):
                raise solution
            answer[platform] = [package.to_json() for package in solution]
        return answer


def _needs_check(request: dict[str, Any]) -> bool:
    """Whether records are checked before rattler parses them."""
    return bool(request["alone"] or request["doubtful"])


def _describe_missing(channels: dict[str, str], seconds: float) -> ChannelUnavailable:
    return ChannelUnavailable(", ".join(channels.values()), f"no complete answer within {seconds:g} s")


def _check_platform(platform: str) -> None:
    try:
        Subdir(platform)
    except ParseSubdirError:
        raise Unsatisfiable(platform, "conda has no such platform") from None


async def serve(connection: socket.socket) -> None:
    """Answer requests until the other side is gone."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    first = await read_frame(reader)
    if first is None:
        return
    configuration = Configuration(**first)
    _limit(configuration)

    def notice(number: int, reading: tuple[str, ...]) -> None:
        writer.write(write_frame({"id": number, "reading": reading}))

    process = SolverProcess(configuration, notice)
    running: set[asyncio.Task[None]] = set()

    async def reply(request: dict[str, Any]) -> None:
        writer.write(_frame(await process.answer(request)))
        await writer.drain()

    while (request := await read_frame(reader)) is not None:
        task = asyncio.create_task(reply(request))
        running.add(task)
        task.add_done_callback(running.discard)


def _frame(answer: dict[str, Any]) -> bytes:
    """Write the frame of `answer`, or of an error if it is larger than the other side accepts."""
    framed = write_frame(answer)
    if len(framed) <= LARGEST:
        return framed
    text = f"its answer has {len(framed)} bytes; at most {LARGEST} are allowed; ask for fewer packages"
    return write_frame({"id": answer["id"], "error": {"kind": "", "text": text}})


def _limit(configuration: Configuration) -> None:
    """Let the kernel limit this process's memory and the size of its files.

    RLIMIT_DATA counts the memory that the process may write to, not what it maps from files or reserves for threads.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (configuration.memory, configuration.memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (configuration.repodata_size, configuration.repodata_size))


def _end_for_memory() -> NoReturn:
    """End like rattler when it cannot allocate memory."""
    os.write(2, OUT_OF_MEMORY.encode() + b"\n")
    os.abort()


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # one line per event, which the other side reads as one
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.LogfmtRenderer(key_order=["level", "event"]),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.captureWarnings(capture=True)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(serve(socket.socket(fileno=int(sys.argv[1]))))
    # solves that still run cannot be stopped, and nobody waits for them
    os._exit(0)


if __name__ == "__main__":
    main()
