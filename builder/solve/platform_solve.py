"""Solving a spec with rattler for each of its platforms, from channels that are loaded."""

from __future__ import annotations

import asyncio
import datetime
import json
from dataclasses import dataclass, field

import rattler
from rattler import Channel, GenericVirtualPackage, MatchSpec, PackageName, RepoDataRecord, Subdir
from rattler.channel import ChannelPriority
from rattler.exceptions import GatewayError, SolverError
from rattler.package import BuildString

from builder.channels.channel import resolve_address, strip_credentials
from builder.errors import PackageRefused
from builder.locks.dates import read_record_dates
from builder.locks.lock import LockedPackage, order_by_dependency
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.policy.policy import Policy
from builder.solve.indexes.record_problem import find_record_problem
from builder.solve.indexes.records import describe_excess
from builder.solve.indexes.repodata import Repodata
from builder.solve.reasons import Wish, raise_reason
from builder.solve.sieve import Sieve
from builder.solve.virtual_packages import list_virtual_packages
from storage.text import printable_line

_CANCELLED = "Solve operation has been cancelled"


@dataclass(frozen=True)
class PlatformSolve:
    """One spec, to be solved platform by platform. `channels` maps URL to name, in order of priority.

    If `checked`, the records are checked before rattler solves with them. What `policy` refuses, rattler does not see.
    """

    repodata: Repodata
    channels: dict[str, str]
    alias: str
    spec: EnvironmentSpec
    glibc: dict[str, str]
    seconds: float
    checked: bool
    policy: Policy = field(default_factory=Policy)
    at: float = 0
    """The time (UNIX seconds) that ages of packages are counted to."""

    async def packages(self, platform: str) -> tuple[LockedPackage, ...]:
        """Solve for one platform.

        Raises UnknownPackage, Unsatisfiable, ChannelUnavailable, ChannelRefused, TimeoutError.
        """
        try:
            records = await self._collect_records(platform)
        except GatewayError:
            # a server whose index is newer than the one in memory may no longer have a shard
            await self.repodata.reload(self.channels)
            try:
                records = await self._collect_records(platform)
            except GatewayError as error:
                raise self.repodata.make_error(self.channels, str(error)) from None
        # a channel decides how long this takes
        return await asyncio.to_thread(lambda: order_by_dependency(self._lock(record, platform) for record in records))

    async def _collect_records(self, platform: str) -> list[RepoDataRecord]:
        gateway = await self.repodata.open_gateway(self.channels, [platform, "noarch"])
        virtual = list_virtual_packages(platform, self.glibc[platform], self.spec.virtual_packages)
        wishes = [self._make_wish(item) for item in self.spec.items]
        until = datetime.datetime.combine(self.spec.until, datetime.time.max, datetime.UTC) if self.spec.until else None
        if self.checked:
            names = {item.name for item in self.spec.items}
            await self.repodata.records.check(gateway, self.channels, platform, names)
        sieve = (
            Sieve(gateway, self.channels, platform, self.spec, self.policy, self.at) if self.policy.removes else None
        )
        try:
            return await rattler.solve(
                sieve.sources if sieve else [Channel(url) for url in self.channels],
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
                raise TimeoutError from None
            await raise_reason(gateway, wishes, platform, virtual, until, str(error), sieve)
            raise
        finally:
            if sieve:
                await sieve.close()

    def _make_wish(self, item: PackageItem) -> Wish:
        """Write an item for rattler. Channel names are resolved here, because rattler knows only its own alias."""
        parts = []
        if item.version:
            parts.append(f'version="{item.version}"')
        if item.build:
            parts.append(f'build="{item.build}"')
        channels = self.channels
        if item.channel:
            url = resolve_address(item.channel, self.alias)
            parts.append(f'channel="{url}"')
            channels = {url: item.channel}
        text = f"{item.name}[{','.join(parts)}]" if parts else item.name
        return Wish(item, MatchSpec(text, strict=False), channels)

    def _lock(self, record: RepoDataRecord, platform: str) -> LockedPackage:
        """Turn a record into a locked package. Raises PackageRefused."""
        text = record.to_json()
        if problem := describe_excess(text):
            raise PackageRefused(
                printable_line(record.file_name[:100]), f"its record in the channel's index has {problem}"
            )
        document = json.loads(text)
        channel = strip_credentials(document["channel"])
        kind = record.noarch
        dates = read_record_dates(record.timestamp, record.indexed_timestamp)
        package = LockedPackage(
            name=document["name"],
            version=document["version"],
            build=document["build"],
            build_number=document["build_number"],
            subdir=document["subdir"],
            channel=self.channels.get(channel.rstrip("/") + "/", channel),
            url=strip_credentials(document["url"]),
            file_name=document["fn"],
            size=document.get("size"),
            sha256=document.get("sha256"),
            md5=document.get("md5"),
            depends=tuple(document.get("depends", ())),
            constrains=tuple(document.get("constrains", ())),
            license=document.get("license"),
            timestamp=dates.timestamp,
            noarch="python" if kind.python else "generic" if kind.generic else None,
            python_site_packages_path=document.get("python_site_packages_path"),
            since=dates.since,
        )
        if problem := find_record_problem(package, platform):
            raise PackageRefused(printable_line(package.file_name[:100]), f"{problem} (channel {package.channel})")
        return package
