"""The engines that the suite runs over, and the databases; a further engine is one more name in ENGINES."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.catalog.builds import Builds
from tests.builder.queue.engines import ENGINES, Engines
from tests.support.storage.stores import new_sqlite, open_stores


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return new_sqlite(tmp_path / "condery.sqlite")
    migrated: str = request.getfixturevalue("migrated_postgres")
    return migrated


@pytest.fixture
async def builds(url: str, tmp_path: Path) -> AsyncIterator[Builds]:
    async with open_stores(tmp_path, url=url) as stores:
        yield stores.catalog.builds


@pytest.fixture(params=ENGINES)
async def engines(request: pytest.FixtureRequest, builds: Builds, url: str) -> AsyncIterator[Engines]:
    """Opens any number of engines over one database, as processes do; closes them."""
    async with Engines.opened(request.param, builds, url) as opened:
        yield opened
