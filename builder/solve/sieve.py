"""Keeps from the solver what the policy refuses, so that it finds what is allowed where there is such.

rattler asks a `Sieve` for the records of each package instead of asking the gateway. It gets those that may be taken,
and what was kept back is remembered with the reason, for whoever asks why there is no solution.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rattler import Channel, Gateway, PackageName, RepoDataRecord, Subdir

from builder.locks.dates import read_record_dates
from builder.names.spec import EnvironmentSpec
from builder.policy.denial import Candidate
from builder.policy.policy import Policy

_MOST_VERSIONS = 6
_MOST_PACKAGES = 5
_LONGEST_NAME = 100
_LONGEST_VERSION = 60
"""Characters that are told of what a channel calls a version."""

Lists = Mapping[tuple[str, str], list[RepoDataRecord]]
"""The records of one package, by channel (URL) and platform."""


@dataclass(frozen=True)
class Removed:
    """A package's version that was kept back."""

    version: str
    refusal: str


class Sieve:
    """Of one solve for one platform. `channels` maps URL to name, in order of priority; `at` is in UNIX seconds."""

    def __init__(
        self,
        gateway: Gateway,
        channels: Mapping[str, str],
        platform: str,
        spec: EnvironmentSpec,
        policy: Policy,
        at: float,
    ) -> None:
        self.removed: dict[str, list[Removed]] = {}
        """By the name of the package."""
        self._gateway = gateway
        self._channels = list(channels)
        self._platforms = (platform, "noarch")
        self._policy = policy
        self._at = at
        self._of_one_channel = {item.name for item in spec.items if item.channel}
        self._asked: dict[str, asyncio.Task[Lists]] = {}

    @property
    def sources(self) -> list[Source]:
        """What rattler solves with, in place of the channels."""
        return [Source(self, url) for url in self._channels]

    def judge(self, record: RepoDataRecord) -> Removed | None:
        """Why a record is kept back, if it is."""
        refusal = self._policy.find_refusal(describe_record(record), self._at)
        return Removed(str(record.version)[:_LONGEST_VERSION], refusal) if refusal else None

    async def close(self) -> None:
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def list_records(self, url: str, platform: str, name: str) -> list[RepoDataRecord]:
        if name not in self._asked:
            self._asked[name] = asyncio.create_task(self._sift(name))
        return (await asyncio.shield(self._asked[name]))[url, platform]

    async def _sift(self, name: str) -> Lists:
        answer = await self._gateway.query(
            [Channel(url) for url in self._channels],
            list(map(Subdir, self._platforms)),
            [name],
            recursive=False,
            channel_relations="disabled",
        )
        # one list for each platform of each channel, in this order
        places = [(url, platform) for url in self._channels for platform in self._platforms]
        lists = dict(zip(places, answer, strict=True))
        owner = next((url for (url, _), records in lists.items() if records), None)
        if name not in self._of_one_channel:
            # The first channel that has a package is the only one for it, also where nothing of it may be taken there:
            # otherwise anybody's package of that name would take its place.
            lists = {(url, platform): records if url == owner else [] for (url, platform), records in lists.items()}
        return {place: list(self._keep(name, records)) for place, records in lists.items()}

    def _keep(self, name: str, records: list[RepoDataRecord]) -> Iterator[RepoDataRecord]:
        for record in records:
            if removed := self.judge(record):
                self.removed.setdefault(name, []).append(removed)
            else:
                yield record

    def describe(self) -> str:
        """What was kept back, for a person; empty where nothing was."""
        lines = []
        for name, removed in sorted(self.removed.items())[:_MOST_PACKAGES]:
            lines.append(f"{name[:_LONGEST_NAME]} {describe_removed(removed)}")
        if (more := len(self.removed) - _MOST_PACKAGES) > 0:
            lines.append(f"and versions of {more} more packages")
        return "\n".join(lines)


class Source:
    """One channel, as rattler asks for it (`rattler.RepoDataSource`)."""

    def __init__(self, sieve: Sieve, url: str) -> None:
        self._sieve = sieve
        self._url = url

    async def fetch_package_records(self, platform: Subdir, name: PackageName) -> list[RepoDataRecord]:
        return await self._sieve.list_records(self._url, str(platform), name.normalized)

    def package_names(self, platform: Subdir) -> list[str]:
        """Nobody asks for the names while it is solved."""
        return []


def describe_record(record: RepoDataRecord) -> Candidate:
    """A record as rules see it."""
    return Candidate(
        record.name.normalized,
        str(record.version),
        str(record.build),
        record.channel.rstrip("/") + "/",
        record.license,
        read_record_dates(record.timestamp, record.indexed_timestamp).age_start,
    )


def describe_removed(removed: Sequence[Removed]) -> str:
    """Versions by the reason they share, for a person."""
    by_refusal: dict[str, list[str]] = {}
    for each in removed:
        by_refusal.setdefault(each.refusal, []).append(each.version)
    parts = []
    for refusal, versions in list(by_refusal.items())[:2]:
        distinct = list(dict.fromkeys(versions))
        more = f" and {len(distinct) - _MOST_VERSIONS} more" if len(distinct) > _MOST_VERSIONS else ""
        plural = ": each" if len(distinct) > 1 else ""
        parts.append(f"{', '.join(distinct[:_MOST_VERSIONS])}{more}{plural} {refusal}")
    rest = f"; and others for {len(by_refusal) - 2} more reasons" if len(by_refusal) > 2 else ""
    return "; ".join(parts) + rest
