"""What tests of this folder share."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import structlog
import uvloop

from tests.support.registry.pushes import Pusher
from tests.support.registry.serving import Site

GlobalLogger = type(structlog.get_logger())

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def push(site: Site) -> Pusher:
    """Pushes to the module's own server."""
    return Pusher(site)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Coroutine[Any, Any, None]], None]]:
    """Runs a coroutine on each kind of loop: they differ in what a transport has read when it is paused, and in TLS."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner.run


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """Undoes `registry.logs.lines.configure` after a test that calls it."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    for module in list(sys.modules.values()):
        # a logger that was used since keeps where its lines went; without this it is made anew at its next line
        if isinstance(logger := vars(module).get("log"), GlobalLogger):
            vars(logger).pop("bind", None)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
