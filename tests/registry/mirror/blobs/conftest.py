"""A registry that has a large layer, and may send half of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from registry.mirror import fetching
from tests.support.registry.mirrored import APP
from tests.support.registry.mirrored_blobs import IMAGE, Gate
from tests.support.registry.upstreams import ScriptedRegistry, scripted_registry


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.001)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedRegistry]:
    async with scripted_registry() as registry:
        registry.put(APP, IMAGE, "latest")
        yield registry


@pytest.fixture
def gate(upstream: ScriptedRegistry) -> Gate:
    upstream.behaviour = found = Gate(asyncio.Event(), asyncio.Event())
    return found
