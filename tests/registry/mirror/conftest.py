"""What tests of mirrors share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.registry.mirrored import APP, FIRST
from tests.support.registry.upstreams import ScriptedRegistry, scripted_registry


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedRegistry]:
    """Another registry, which has one image."""
    async with scripted_registry() as registry:
        registry.put(APP, FIRST, "latest")
        yield registry
