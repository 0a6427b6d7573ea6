"""The process that solves: a warm rattler `Gateway`, and requests over a socket. Started by `builder.solve.Solver`.

The first frame is the configuration, every further one a request `{"id", "do", ...}`, answered in any order by
`{"id", "answer"}` or `{"id", "error"}`. The process ends when the socket does.
"""

from __future__ import annotations

import asyncio
import ctypes
import datetime
import json
import logging
import os
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rattler
from rattler import Channel, GenericVirtualPackage, MatchSpec, PackageName, RepoDataRecord, Subdir
from rattler.channel import ChannelPriority
from rattler.exceptions import GatewayError, ParseSubdirError, SolverError
from rattler.package import BuildString
from rattler.package_streaming import download_to_path

from builder.channels import Credentials, address, without_credentials
from builder.errors import BuilderError, ChannelUnavailable, PackageRefused, SolveLimit, Unsatisfiable
from builder.frames import LARGEST, frame, read_frame
from builder.lock import LockedPackage, in_dependency_order
from builder.solver_client import guarded_client
from builder.solver_reasons import Wish, package_names, raise_reason
from builder.solver_repodata import Repodata, gateway_reason
from builder.spec import EnvironmentSpec, PackageItem
from builder.virtual_packages import virtual_packages

log = logging.getLogger(__name__)

_CANCELLED = "Solve operation has been cancelled"
_PR_SET_PDEATHSIG = 1
_LARGEST_RECORD = 256 << 10
"""Characters of a package's record. One with hundreds of dependencies has a tenth of them."""
_STOPPING = 1.0
"""Seconds in which a solve whose time is over should have stopped; the parent waits for an answer a little longer."""


@dataclass(frozen=True)
class Configuration:
    """What the process is told once. `glibc` is the version of `__glibc` where a request has none.

    `proxy` is the one way out, with the password for it.
    """

    repodata: str
    channel_alias: str
    proxy: str
    credentials: str | None
    glibc: str
    priority: int = 0


class SolverProcess:
    """Answers the requests of one `Solver`."""

    def __init__(self, configuration: Configuration) -> None:
        os.nice(configuration.priority)
        self._alias = configuration.channel_alias
        self._glibc = configuration.glibc
        self._credentials = Credentials.read(Path(configuration.credentials) if configuration.credentials else None)
        repodata = Path(configuration.repodata)
        client = guarded_client(configuration.proxy, configuration.credentials, repodata)
        self._repodata = Repodata(repodata, client)

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request; never raises for what the request is about."""
        try:
            match request["do"]:
                case "solve":
                    spec = EnvironmentSpec.from_json(request["spec"])
                    glibc = dict.fromkeys(spec.platforms, self._glibc) | request["glibc"]
                    answer: Any = await self._solve(spec, glibc, request["seconds"])
                case "load":
                    spec = EnvironmentSpec.from_json(request["spec"])
                    await self._load(spec, request["seconds"], records=request["records"])
                    answer = None
                case "names":
                    answer = sorted(await self._names(request["channels"], request["platforms"]))
                case "refresh":
                    async with asyncio.timeout(request["seconds"]):
                        await self._repodata.refresh(request["idle"])
                    answer = None
                case "download":
                    await download_to_path(self._repodata.client, request["url"], Path(request["path"]))
                    answer = None
                case unknown:
                    raise ValueError(f"unknown request {unknown}")
            return {"id": request["id"], "answer": answer}
        except BuilderError as error:
            fields = {name: self._clean(value) for name, value in vars(error).items()}
            return {"id": request["id"], "error": {"kind": type(error).__name__, "fields": fields}}
        except Exception as error:  # noqa: BLE001 - whatever rattler or the request holds, the others must live on
            log.warning("%s", self._clean(traceback.format_exc()))
            return {"id": request["id"], "error": {"kind": "", "text": self._clean(str(error))}}

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._credentials.redact(value)
        return [self._clean(each) for each in value] if isinstance(value, tuple | list) else value

    async def _names(self, channels: list[str], platforms: list[str]) -> set[str]:
        urls = [address(channel, self._alias) for channel in channels]
        gateway = await self._repodata.gateway(urls, platforms)
        return await package_names(gateway, urls, platforms)

    async def _load(self, spec: EnvironmentSpec, seconds: float, *, records: bool) -> None:
        """Raises ChannelUnavailable for what has not come within `seconds`."""
        channels = await self._channels(spec, seconds)
        if not records:
            return
        platforms = {*spec.platforms, "noarch"}
        gateway = await self._repodata.gateway(channels, platforms)
        names = {item.name for item in spec.items}
        try:
            async with asyncio.timeout(seconds):
                await gateway.query(list(map(Channel, channels)), list(map(Subdir, platforms)), sorted(names))
        except TimeoutError:
            raise _incomplete(channels, seconds) from None
        except GatewayError as error:
            raise ChannelUnavailable(", ".join(channels.values()), gateway_reason(str(error))) from None

    async def _channels(self, spec: EnvironmentSpec, seconds: float) -> dict[str, str]:
        """URL to name of the channels of `spec`, in order of priority, all of them loaded."""
        for platform in spec.platforms:
            _check_platform(platform)
        channels: dict[str, str] = {}
        for name in (*spec.channels, *(item.channel for item in spec.items if item.channel)):
            channels.setdefault(address(name, self._alias), name)
        try:
            async with asyncio.timeout(seconds):
                await self._repodata.gateway(channels, {*spec.platforms, "noarch"})
        except TimeoutError:
            raise _incomplete(channels, seconds) from None
        return channels

    async def _solve(self, spec: EnvironmentSpec, glibc: dict[str, str], seconds: float) -> dict[str, Any]:
        """The packages of every platform, as `LockedPackage.to_json` gives them."""
        channels = await self._channels(spec, seconds)
        solve = PlatformSolve(self._repodata, channels, self._alias, spec, glibc, seconds)
        try:
            # records that come in shards are read meanwhile, and a solve that should stop may not
            async with asyncio.timeout(seconds + _STOPPING):
                return await self._solve_all(solve)
        except TimeoutError:
            raise SolveLimit("time", f"{seconds:g} s") from None

    async def _solve_all(self, solve: PlatformSolve) -> dict[str, Any]:
        spec = solve.spec
        solutions = await asyncio.gather(*map(solve.packages, spec.platforms), return_exceptions=True)
        answer: dict[str, Any] = {}
        for platform, solution in zip(spec.platforms, solutions, strict=True):
            if isinstance(solution, BaseException):
                raise solution
            answer[platform] = [package.to_json() for package in solution]
        return answer


@dataclass(frozen=True)
class PlatformSolve:
    """One spec, to be solved platform by platform. `channels` are URL to name, in order of priority."""

    repodata: Repodata
    channels: dict[str, str]
    alias: str
    spec: EnvironmentSpec
    glibc: dict[str, str]
    seconds: float

    async def packages(self, platform: str) -> tuple[LockedPackage, ...]:
        """Raises UnknownPackage, Unsatisfiable, SolveLimit, ChannelUnavailable."""
        try:
            records = await self._records(platform)
        except GatewayError:
            # A shard can be gone from a server that has a newer index than the one in memory.
            await self.repodata.refresh()
            try:
                records = await self._records(platform)
            except GatewayError as error:
                text = str(error)
                url, channel = next(
                    ((url, name) for url, name in self.channels.items() if url in text),
                    next(iter(self.channels.items())),
                )
                raise ChannelUnavailable(channel, gateway_reason(text, url)) from None
        return in_dependency_order(self._locked(record) for record in records)

    async def _records(self, platform: str) -> list[RepoDataRecord]:
        gateway = await self.repodata.gateway(self.channels, [platform, "noarch"])
        virtual = virtual_packages(platform, self.glibc[platform], self.spec.virtual_packages)
        wishes = [self._wish(item) for item in self.spec.items]
        until = datetime.datetime.combine(self.spec.until, datetime.time.max, datetime.UTC) if self.spec.until else None
        try:
            return await rattler.solve(
                [Channel(url) for url in self.channels],
                [wish.spec for wish in wishes],
                gateway=gateway,
                platforms=[Subdir(platform), Subdir("noarch")],
                virtual_packages=[
                    GenericVirtualPackage(PackageName(name), rattler.Version(version), BuildString(build))
                    for name, version, build in virtual
                ],
                timeout=datetime.timedelta(seconds=self.seconds),
                channel_priority=ChannelPriority.Strict,
                exclude_newer=until,
                channel_relations="disabled",
            )
        except SolverError as error:
            if _CANCELLED in str(error):
                raise SolveLimit("time", f"{self.seconds:g} s") from None
            await raise_reason(gateway, wishes, platform, virtual, until, str(error))
            raise

    def _wish(self, item: PackageItem) -> Wish:
        """An item as rattler reads it. A channel's name is resolved here, because rattler knows only its own alias."""
        parts = []
        if item.constraints:
            parts.append(f'version="{",".join(map(str, item.constraints))}"')
        if item.build:
            parts.append(f'build="*{item.build}*"')
        channels = self.channels
        if item.channel:
            url = address(item.channel, self.alias)
            parts.append(f'channel="{url}"')
            channels = {url: item.channel}
        text = f"{item.name}[{','.join(parts)}]" if parts else item.name
        return Wish(item, MatchSpec(text, strict=False), channels)

    def _locked(self, record: RepoDataRecord) -> LockedPackage:
        text = record.to_json()
        if len(text) > _LARGEST_RECORD:
            raise PackageRefused(
                record.file_name[:100],
                f"its record in the channel's index has {len(text)} characters, where at most {_LARGEST_RECORD} are "
                "allowed",
            )
        document = json.loads(text)
        channel = without_credentials(document["channel"])
        kind = record.noarch
        return LockedPackage(
            name=document["name"],
            version=document["version"],
            build=document["build"],
            build_number=document["build_number"],
            subdir=document["subdir"],
            channel=self.channels.get(channel.rstrip("/") + "/", channel),
            url=without_credentials(document["url"]),
            file_name=document["fn"],
            size=document.get("size"),
            sha256=document.get("sha256"),
            md5=document.get("md5"),
            depends=tuple(document.get("depends", ())),
            constrains=tuple(document.get("constrains", ())),
            license=document.get("license"),
            timestamp=document.get("timestamp"),
            noarch="python" if kind.python else "generic" if kind.generic else None,
            python_site_packages_path=document.get("python_site_packages_path"),
        )


def _incomplete(channels: dict[str, str], seconds: float) -> ChannelUnavailable:
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
    process = SolverProcess(Configuration(**first))
    running: set[asyncio.Task[None]] = set()

    async def reply(request: dict[str, Any]) -> None:
        writer.write(_framed(await process.answer(request)))
        await writer.drain()

    while (request := await read_frame(reader)) is not None:
        task = asyncio.create_task(reply(request))
        running.add(task)
        task.add_done_callback(running.discard)


def _framed(answer: dict[str, Any]) -> bytes:
    """The frame of `answer`, or of an error where it is larger than the other side reads."""
    framed = frame(answer)
    if len(framed) <= LARGEST:
        return framed
    text = f"its answer has {len(framed)} bytes, where at most {LARGEST} are allowed; ask for fewer packages"
    return frame({"id": answer["id"], "error": {"kind": "", "text": text}})


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.captureWarnings(capture=True)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(serve(socket.socket(fileno=int(sys.argv[1]))))
    # Solves that still run cannot be stopped, and nobody waits for them.
    os._exit(0)


if __name__ == "__main__":
    main()
