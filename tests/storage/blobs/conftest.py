"""Stores of blobs, and of joins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.storage.stores import Stores, open_stores


@pytest.fixture
async def stores(tmp_path: Path, database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(tmp_path, url=database_url) as stores:
        yield stores


@pytest.fixture(params=[True, False], ids=["joins", "objects"])
async def either(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> AsyncIterator[Stores]:
    """Stores that keep joins as such, and stores that write them out."""
    async with open_stores(tmp_path, url=database_url, joins=request.param) as stores:
        yield stores
