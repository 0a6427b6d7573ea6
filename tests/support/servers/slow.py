"""Channels that cost time: some send next to nothing, and some are too hard for any solver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from tests.support.servers.channel_server import ChannelServer

PAUSE = 20.0
"""Seconds between bytes: shorter than any timeout that only watches for silence."""


@dataclass
class SlowServer(ChannelServer):
    """Sends a byte every PAUSE seconds if the path contains one of `slow`; `stuck` counts the requests waiting now."""

    slow: Sequence[str] = ()
    stuck: int = field(default=0, init=False)

    async def __aexit__(self, *exception: object) -> None:
        self._ended.set()
        await asyncio.sleep(0.1)
        await super().__aexit__(*exception)

    def __post_init__(self) -> None:
        self._ended = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET" or not any(part in request.path for part in self.slow):
            return await super()._answer(request)
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        self.stuck += 1
        try:
            while not self._ended.is_set():
                await response.write(b"{")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), PAUSE)
            return response
        finally:
            self.stuck -= 1


def make_hard_channel(directory: Path, roots: Sequence[str], variables: int = 250) -> None:
    """Make each of `roots` a random 3-SAT formula with the ratio of clauses that is hardest.

    A variable is a package with two versions, a clause one with three, each of which needs a version of a variable.
    """
    chance = random.Random(1)
    records: dict[str, object] = {}

    def add(name: str, version: str, depends: list[str]) -> None:
        records[f"{name}-{version}-0.conda"] = {
            "name": name, "version": version, "build": "0", "build_number": 0, "depends": depends, "subdir": "noarch",
            "noarch": "generic", "size": 1, "sha256": f"{len(records):064x}", "timestamp": 1_600_000_000_000,
        }  # fmt: skip

    for number in range(variables):
        for version in "12":
            add(f"v{number}", version, [])
    clauses = [f"c{number}" for number in range(round(variables * 4.26))]
    for clause in clauses:
        for version, number in zip("123", chance.sample(range(variables), 3), strict=True):
            add(clause, version, [f"v{number} =={chance.choice('12')}"])
    for root in roots:
        add(root, "1", clauses)
    for subdir, found in (("noarch", records), ("linux-64", {})):
        (directory / subdir).mkdir(parents=True, exist_ok=True)
        document = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": found, "repodata_version": 1}
        (directory / subdir / "repodata.json").write_text(json.dumps(document))
