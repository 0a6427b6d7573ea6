"""A place where one person may see nothing of another's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.registry.environments import Place, serving_environments


@pytest.fixture
async def foreign(tmp_path: Path) -> AsyncIterator[Place]:
    """Requests by somebody who may do everything elsewhere; build 1 is of team/app."""
    people = {"ann": ("team/*=admin",), "eve": ("other/*=admin",)}
    async with serving_environments(tmp_path, people) as ann:
        assert await ann.post("app", "one") == 1
        yield ann.by("eve")
