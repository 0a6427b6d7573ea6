"""Repodata written by hand, and a search for packages in channels that have it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.channels.policy import ChannelPolicy
from builder.search.index_file import Written
from builder.search.indexes import Indexes
from builder.search.package import SearchedChannel
from builder.search.question import Question
from builder.search.search import PackageSearch
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver

PLATFORMS = ("linux-64", "noarch")


def record(name: str, version: str = "1.0", build: str = "0", **fields: Any) -> dict[str, Any]:
    number = build.rpartition("_")[2]
    return {
        "name": name,
        "version": version,
        "build": build,
        "build_number": int(number) if number.isdigit() else 0,
        "depends": [],
        "license": "MIT",
        "size": 1000,
        "timestamp": 1_700_000_000_000,
        "sha256": hashlib.sha256(f"{name} {version} {build}".encode()).hexdigest(),
        "md5": "0" * 32,
        **fields,
    }


def write_repodata(directory: Path, *records: Mapping[str, Any], platform: str = "linux-64") -> Path:
    """Make `directory` a channel whose only index for `platform` has these records."""
    packages = {
        f"{each['name']}-{each['version']}-{each['build']}.conda": {"subdir": platform, **each} for each in records
    }
    document = {"info": {"subdir": platform}, "packages": {}, "packages.conda": packages, "repodata_version": 1}
    folder = directory / platform
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "repodata.json").write_text(json.dumps(document))
    return directory


def write_summaries(directory: Path, **summaries: str) -> None:
    packages = {name: {"summary": summary} for name, summary in summaries.items()}
    (directory / "channeldata.json").write_text(json.dumps({"channeldata_version": 1, "packages": packages}))


@contextlib.asynccontextmanager
async def open_search(
    root: Path, alias: str, *channels: str, refresh: float = 3600, **settings: Any
) -> AsyncIterator[PackageSearch]:
    """A search in `channels`, by name below `alias` or by address; its indexes are below `root`.

    `settings` are the solver's.
    """
    policy = ChannelPolicy(channels, alias, others="all")
    chosen = SolverSettings(root / "repodata", policy, **{"seconds": 30, "refresh": 0, **settings})
    async with Solver(chosen) as solver:

        async def make(channel: str, path: Path, seconds: float) -> Written:
            return await solver.list_packages(channel, PLATFORMS, path, seconds)

        searched = [SearchedChannel(name, url) for url, name in policy.list_named().items()]
        search = PackageSearch(searched, alias, Indexes(root / "search", make, refresh))
        try:
            yield search
        finally:
            await search.close()


async def find(
    search: PackageSearch, text: str = "", *, channels: Sequence[str] = (), **question: Any
) -> list[tuple[str, str, str]]:
    """Name, version and build of all that is found, which is read in one page and in pieces."""
    named = [each for each in search.channels if each.name in channels]
    async with search.find(Question(text, **question), named) as found:
        page = await found.read_page(0, 100_000, list)
        pieces = [package async for piece in found.read_all(7, list) for package in piece]
        assert list(map(tuple, page)) == list(map(tuple, pieces))
        assert found.count == len(page)
    return [(each[2], each[3], each[4]) for each in pieces]


async def find_problems(search: PackageSearch) -> Mapping[str, str]:
    async with search.find(Question()) as found:
        return found.problems


async def settle(search: PackageSearch, text: str, *, until: Callable[[list[tuple[str, str, str]]], bool]) -> None:
    """Search until what is found is as it should be: an index is made anew beside the searches."""
    async with asyncio.timeout(120):
        while not until(await find(search, text)):
            await asyncio.sleep(0.05)
