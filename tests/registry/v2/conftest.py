"""A server that gives up on clients that stall."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.http.settings import HttpSettings
from tests.support.registry.serving import Site, serving


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, HttpSettings(stall_seconds=2)) as running:
        yield running
