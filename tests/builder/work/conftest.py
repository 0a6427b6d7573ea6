"""The event loops of these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.builder.work.jumping_clock import JumpingLoop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Turns are given out by the loop's clock alone, so no test of them need wait for another one."""
    return {"loop": JumpingLoop if item.path.name == "test_turns.py" else asyncio.new_event_loop}
