"""Opening the builder over a data directory that others have used."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from builder.artifacts.artifact import ARCHIVE
from builder.names.image_name import parse_specs
from builder.service import BuilderService
from builder.settings import BuilderSettings
from builder.work.claims import Caller, Claim, on_behalf_of
from builder.work.pool import HEAVY_NICENESS, WorkerPool
from builder.work.worker import NICENESS
from storage.disk.files import TEMPORARY, atomic_write
from tests.support.builder.packages import File, Package
from tests.support.builder.services import make_channel, open_service
from tests.support.storage.stores import open_stores

SETTINGS = BuilderSettings(base="scratch", workers=1)


async def test_a_server_clears_away_what_dead_ones_left_and_nothing_else(tmp_path: Path) -> None:
    left = [
        tmp_path / "fragments" / f"{TEMPORARY}1-x",
        tmp_path / "contents" / f"{TEMPORARY}2-x.json",
        tmp_path / "bases" / f"{TEMPORARY}3-x.json",
        tmp_path / "working" / f"{TEMPORARY}4" / "bin" / "python",
    ]
    # starting walks through nothing that grows: what is in there is found by nobody
    deep = [tmp_path / folder / "ab" / f"{TEMPORARY}5-x" for folder in ("blobs", "fragments", "contents")]
    kept = [tmp_path / "archives/x.conda.part", tmp_path / "fragments/ab/x", *deep]
    for path in [*left, *kept]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    async with open_stores(tmp_path) as stores:
        with atomic_write(tmp_path / "fragments/ab/y", scratch=tmp_path / "fragments") as file:
            file.write(b"being written by somebody else")
            async with BuilderService.open(SETTINGS, tmp_path, stores.catalog, stores.blobs, resume=True):
                async with asyncio.timeout(60):
                    while any(path.exists() for path in left):
                        await asyncio.sleep(0.01)
    assert all(path.exists() for path in kept)
    assert (tmp_path / "fragments/ab/y").read_bytes() == b"being written by somebody else"


async def test_large_packages_are_for_workers_of_low_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reads or transcodes their archives: images, archives, and the comparison of their paths."""
    run, done = WorkerPool.run, list[tuple[int, str]]()

    async def note(pool: WorkerPool, doing: str, *args: Any, **kwargs: Any) -> Any:
        done.append((pool._niceness, doing.partition(" ")[0]))
        return await run(pool, doing, *args, **kwargs)

    monkeypatch.setattr(WorkerPool, "run", note)
    packages = [Package(name=name, files={"share/both": File(b"x"), f"share/{name}": File(b"y")}) for name in "ab"]
    channel = await make_channel(tmp_path / "channel", packages)
    for folder, least, niceness in (("large", 1, HEAVY_NICENESS), ("small", 1 << 30, NICENESS)):
        monkeypatch.setattr("builder.work.pool.HEAVY", least)
        done.clear()
        stranger = on_behalf_of(Claim(Caller("203.0.113.1")))
        async with open_service(tmp_path / folder, channel) as service:
            with stranger:
                lock = await service.lock(parse_specs(["a", "b"], service.builder.settings))
                await service.builder.image(lock)
                await service.builder.artifact(lock, ARCHIVE)
        with_packages = {"reading", "transcoding", "comparing"}
        assert {each for each in done if each[1] in with_packages} == {(niceness, doing) for doing in with_packages}
        assert {number for number, doing in done if doing not in with_packages} == {NICENESS}
