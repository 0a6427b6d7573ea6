"""Opening the builder over a data directory that others have used."""

from __future__ import annotations

import asyncio
from pathlib import Path

from builder.service import BuilderService
from builder.settings import BuilderSettings
from storage.blobs import FileBlobStore
from storage.catalog import Catalog
from storage.database import migrate, sqlite_url
from storage.files import TEMPORARY, atomic_write


async def test_a_server_clears_away_what_dead_ones_left_and_nothing_else(tmp_path: Path) -> None:
    left = [tmp_path / "fragments/ab" / f"{TEMPORARY}1-x", tmp_path / "working" / f"{TEMPORARY}2" / "bin" / "python"]
    kept = [tmp_path / "archives/x.conda.part", tmp_path / "fragments/ab/x"]
    for path in [*left, *kept]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    migrate(sqlite_url(tmp_path / "condery.sqlite"))
    catalog = Catalog.open(sqlite_url(tmp_path / "condery.sqlite"))
    settings = BuilderSettings(base="scratch", workers=1)
    with atomic_write(tmp_path / "blobs/sha256/ab/y") as file:
        file.write(b"being written by somebody else")
        async with BuilderService.open(settings, tmp_path, catalog, FileBlobStore(tmp_path), resume=True):
            async with asyncio.timeout(60):
                while any(path.exists() for path in left):
                    await asyncio.sleep(0.01)
    await catalog.close()
    assert all(path.exists() for path in kept)
    assert (tmp_path / "blobs/sha256/ab/y").read_bytes() == b"being written by somebody else"
