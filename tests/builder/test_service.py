"""Opening the builder over a data directory that others have used."""

from __future__ import annotations

import asyncio
from pathlib import Path

from builder.service import BuilderService
from builder.settings import BuilderSettings
from storage.disk.files import TEMPORARY, atomic_write
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
